"""libtpu on machines without a TPU, where the extra `tpu-aot` installs it for its compiler."""

import os
from pathlib import Path

# What libtpu looks up about its host when it is loaded; any valid answers do where there is no TPU.
HOST = {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_ACCELERATOR_TYPE": "v5e-4"}

_GOOGLE = "0x1ae0"  # PCI vendor
_NETWORK_OR_STORAGE = ("0x01", "0x02")  # PCI classes of Google's virtual disks and network cards


def describe_host(devices: Path = Path("/sys/bus/pci/devices")) -> None:
    """Set `HOST` in the environment unless the machine may have a TPU. Call it before JAX is used.

    Without these variables libtpu prints a stack trace in every process in which JAX looks for TPUs. The
    choice of the backend stays JAX's. On a TPU host nothing is set, and libtpu's errors are shown.
    """
    if not any(_may_be_tpu(device) for device in devices.glob("*")):
        for name, value in HOST.items():
            os.environ.setdefault(name, value)


def _may_be_tpu(device: Path) -> bool:
    try:
        vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
    except OSError:
        return False
    return vendor == _GOOGLE and not kind.startswith(_NETWORK_OR_STORAGE)
