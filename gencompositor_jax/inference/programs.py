"""Compiled programs in a folder: a later process loads them, without tracing or compiling.

    gencompositor compile --checkpoint C --out programs
    gencompositor compose --checkpoint C --compiled programs ...

The folder holds `programs.json` and one file per program. An executable is valid for one version of JAX, one
kind of device and one set of shapes: `Programs.load` and `Programs.check` compare them and report
differences. Executables are code: load only what you trust.
"""

import contextlib
import dataclasses
import hashlib
import json
import pickle
import platform
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jaxlib
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from gencompositor_jax import fields
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Text, Whole, length
from gencompositor_jax.files import atomic_folder, read_bytes, read_json

FORMAT = 1
INDEX = "programs.json"
MAX_PROGRAM = 2**32  # bytes of one executable

Run = Callable[..., Any]  # (jitted function, its arguments, its static ones by name) -> its result


def directly(program: Any, *args: Any, **static: Any) -> Any:
    """Calls a jitted function, which is traced and compiled for new shapes."""
    return program(*args, **static)


class Signature(NamedTuple):
    """What an executable was compiled for."""

    name: str  # of the function
    arguments: tuple[str, ...]  # types and shapes: float32[1,3]
    tree: str  # how they are nested
    static: Mapping[str, str]  # the other arguments, by dotted names down to plain values

    @property
    def key(self) -> str:
        """A file name."""
        return f"{self.name}-{hashlib.sha256(repr(self).encode()).hexdigest()[:16]}"


def signature(program: Any, args: tuple[Any, ...], static: Mapping[str, Any]) -> Signature:
    """The signature of a call; arguments are arrays, numbers or jax.ShapeDtypeStruct."""
    leaves, tree = jax.tree.flatten(args)
    plain: dict[str, str] = {}
    for name in sorted(static):
        plain |= _plain(name, static[name])
    return Signature(program.__name__, tuple(map(_type_of, leaves)), str(tree), plain)


class Rehearsal:
    """Runs each program once and returns its first result for all later calls, whose results are not used: a
    pass of many steps then costs one run of each program.
    """

    def __init__(self, run: Run = directly) -> None:
        self._run = run
        self._results: dict[str, Any] = {}

    def __call__(self, program: Any, *args: Any, **static: Any) -> Any:
        """The first result for such arguments."""
        key = signature(program, args, static).key
        if key not in self._results:
            self._results[key] = jax.block_until_ready(self._run(program, *args, **static))
        return self._results[key]


class Recorder:
    """Compiles and serialises what it is asked to run, and runs the deserialised program, so that only
    programs that load are written.
    """

    def __init__(self) -> None:
        self.kept: dict[str, tuple[Signature, bytes]] = {}
        self._loaded: dict[str, Any] = {}

    def __call__(self, program: Any, *args: Any, **static: Any) -> Any:
        """The program's result."""
        of = signature(program, args, static)
        if of.key not in self.kept:
            with _nothing_cached():
                packed = _pack(program.lower(*args, **static).compile())
            self._loaded[of.key] = _unpack(packed)
            self.kept[of.key] = of, packed
        return self._loaded[of.key](*args)

    def save(self, folder: Path, made_for: Mapping[str, Any], overwrite: bool = False) -> int:
        """Writes the folder, whole or not at all; returns the size of the executables in bytes.

        made_for: what `Programs.check` will compare, plain values by name. Raises InputError if the folder
        exists and `overwrite` is False, or can't be written.
        """
        entries = {}
        with atomic_folder(folder, overwrite) as part:
            for key, (of, packed) in self.kept.items():
                (part / key).write_bytes(packed)
                digest = hashlib.sha256(packed).hexdigest()
                entries[key] = {"sha256": digest, "bytes": len(packed), **of._asdict()}
            index = {"format": FORMAT, "machine": machine(), "made_for": made_for, "programs": entries}
            (part / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        return sum(len(packed) for _, packed in self.kept.values())


@dataclasses.dataclass(frozen=True)
class Programs:
    """The executables of a folder; call it like `directly`."""

    folder: Path
    made_for: Mapping[str, Any]
    signatures: Mapping[str, Signature]
    executables: Mapping[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> "Programs":
        """Loads the executables that `Recorder.save` wrote.

        Raises InputError if the folder has no programs, a file is damaged, or JAX, the kind of device or the
        processor differs from what they were compiled for.
        """
        folder = Path(folder)
        index = _read_index(folder)
        there, here = index["machine"], machine()
        differing = [
            f"{name} {there.get(name)!r}, here {here[name]!r}"
            for name in here
            if there.get(name) != here[name]
        ]
        if differing:
            raise InputError(
                f"--compiled {folder}: compiled for {'; '.join(differing)}; run gencompositor compile here"
            )
        signatures, executables = {}, {}
        for key, entry in index["programs"].items():
            signatures[key] = Signature(entry.name, entry.arguments, entry.tree, entry.static)
            executables[key] = _unpack(_read(folder, key, entry))
        return cls(folder, index["made_for"], signatures, executables)

    def check(self, needed: Mapping[str, Any]) -> None:
        """Raises InputError unless the programs were compiled for these values; names as in `made_for`."""
        differing = [
            f"{name}={self.made_for.get(name)}, not {value}"
            for name, value in needed.items()
            if self.made_for.get(name) != value
        ]
        if differing:
            raise InputError(
                f"--compiled {self.folder}: made for {', '.join(differing)}; run gencompositor compile with "
                "this run's options"
            )

    def __call__(self, program: Any, *args: Any, **static: Any) -> Any:
        """Runs the executable for such a call. Raises InputError, with the difference, if there is none."""
        of = signature(program, args, static)
        if of.key not in self.executables:
            raise InputError(
                f"--compiled {self.folder}: {self._missing(of)}; run gencompositor compile with this run's "
                "options"
            )
        return self.executables[of.key](*args)

    def _missing(self, wanted: Signature) -> str:
        same = [there for there in self.signatures.values() if there.name == wanted.name]
        if not same:
            return f"has no program {wanted.name!r}"
        there = same[0]
        names = sorted(there.static.keys() | wanted.static.keys())
        for name in names:
            if there.static.get(name) != wanted.static.get(name):
                return f"made for {name}={there.static.get(name)}, not {wanted.static.get(name)}"
        if there.tree != wanted.tree:
            return f"its program {wanted.name!r} takes other arguments"
        pairs = zip(there.arguments, wanted.arguments, strict=True)
        old, new = next(((a, b) for a, b in pairs if a != b), ("", ""))
        return f"its program {wanted.name!r} takes {old}, not {new}"


def machine() -> dict[str, str]:
    """What executables depend on besides shapes."""
    device = jax.devices()[0]
    facts = {"jax": jax.__version__, "jaxlib": jaxlib.__version__, "device": device.device_kind}
    if device.platform == "cpu":
        return facts | {"processor": _processor()}
    return facts | {"platform": device.client.platform_version}


def _processor() -> str:
    """The CPU's architecture, its model and a hash of its instruction sets, as far as the system reports
    them.
    """
    found = [platform.machine()]
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return found[0]
    for name in ("model name", "flags", "Features"):
        line = next((line for line in lines if line.startswith(name)), None)
        if line is not None:
            value = line.partition(":")[2].strip()
            found.append(value if name == "model name" else hashlib.sha256(value.encode()).hexdigest()[:8])
    return " ".join(found)


@contextlib.contextmanager
def _nothing_cached() -> Iterator[None]:
    """Bypasses the persistent cache: on a CPU, XLA can't serialise a program that it has read from the cache
    (the serialised program lacks its functions, with jaxlib 0.10 and 0.11).
    """
    setting = "jax_enable_compilation_cache"
    before = getattr(jax.config, setting)
    jax.config.update(setting, False)
    compilation_cache.reset_cache()  # JAX reads the setting once
    jax.clear_caches()  # programs that this process has read before
    try:
        yield
    finally:
        jax.config.update(setting, before)
        compilation_cache.reset_cache()


def _pack(compiled: jax.stages.Compiled) -> bytes:
    return pickle.dumps(serialize_executable.serialize(compiled))


def _unpack(packed: bytes) -> Any:
    payload, inputs, outputs = pickle.loads(packed)
    first = jax.devices()[:1]  # where arrays without a mesh are stored
    load = serialize_executable.deserialize_and_load
    return load(payload, inputs, outputs, execution_devices=first)


def _read_index(folder: Path) -> dict[str, Any]:
    file = folder / INDEX
    if not file.exists():
        raise InputError(f"--compiled {folder}: has no {INDEX}; pass a folder of gencompositor compile")
    try:
        found = fields.read(dict[str, Any], read_json(file), str(file))
        if found.get("format") != FORMAT:
            raise InputError(f"{file}: of another version")
        return fields.given(fields.read(_FILE, found, str(file)))
    except InputError as error:
        raise InputError(f"{error}; run gencompositor compile again") from error


_Texts = Annotated[tuple[str, ...], length(0, 100_000)]
# The fields of programs.json. A key is the name of a file in the same folder.
_FILE = fields.schema(
    "Index",
    format=Whole,
    machine=dict[str, Any],
    made_for=dict[str, Any],
    programs=fields.map_of(
        fields.name_of("A-Za-z0-9_.-"),
        fields.schema(
            "Program",
            sha256=Text,
            bytes=Annotated[Whole, fields.within(0, MAX_PROGRAM)],
            name=Text,
            arguments=_Texts,
            tree=str,
            static=dict[str, Any],
        ),
    ),
)


def _read(folder: Path, key: str, entry: Any) -> bytes:
    """A file's content, after its hash was checked: it is about to be executed."""
    try:
        packed = read_bytes(folder / key, entry.bytes)
    except InputError as error:
        raise InputError(f"{error}; run gencompositor compile again") from error
    if hashlib.sha256(packed).hexdigest() != entry.sha256:
        raise InputError(f"{folder}/{key}: damaged; run gencompositor compile again")
    return packed


def _plain(name: str, value: Any) -> dict[str, str]:
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return {name: repr(value)}
    found: dict[str, str] = {}
    for field in dataclasses.fields(value):
        found |= _plain(f"{name}.{field.name}", getattr(value, field.name))
    return found


def _type_of(leaf: Any) -> str:
    kind = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
    return f"{kind.dtype}[{','.join(map(str, kind.shape))}]"
