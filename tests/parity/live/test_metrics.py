"""Metrics against scikit-image, lpips, stlpips-pytorch and torchmetrics, to 1e-4 relative."""

import importlib.util
import sys
import types
from collections.abc import Iterator

import numpy as np
import pytest

from gencompositor_jax.evaluation import pickles, weights
from gencompositor_jax.evaluation.metrics import distances, interpolation, lpips
from gencompositor_jax.evaluation.metrics import frames as per_frame
from tests.evaluation.metrics import lpips_weights

pytestmark = [pytest.mark.parity, pytest.mark.slow]
TOLERANCE = 1e-4
FIRST, SECOND = lpips_weights.clips()


def need(*modules: str, remedy: str = "pip install -e '.[parity]'") -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: {remedy}")


@pytest.fixture
def stand_ins(monkeypatch) -> Iterator[None]:
    """Both LPIPS packages import torchvision for trunks whose weights are replaced, stlpips a debugger and a
    printer: bare layers, and nothing, in their place.
    """
    from torch import nn

    def stack(*layers: nn.Module) -> types.SimpleNamespace:
        return types.SimpleNamespace(features=nn.Sequential(*layers))

    def alexnet(pretrained: bool = False) -> types.SimpleNamespace:
        sizes, layers = ((64, 3, 11, 4, 2), (192, 64, 5, 1, 2), (384, 192, 3, 1, 1)), []
        sizes += ((256, 384, 3, 1, 1), (256, 256, 3, 1, 1))
        for i, (out, into, side, stride, padding) in enumerate(sizes):
            layers += [nn.MaxPool2d(3, 2)] if i in (1, 2) else []
            layers += [nn.Conv2d(into, out, side, stride, padding), nn.ReLU()]
        return stack(*layers)

    def vgg16(pretrained: bool = False) -> types.SimpleNamespace:
        layers, into = [], 3
        for stage, (out, count) in enumerate(((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))):
            layers += [nn.MaxPool2d(2, 2)] if stage else []
            for _ in range(count):
                layers += [nn.Conv2d(into, out, 3, padding=1), nn.ReLU()]
                into = out
        return stack(*layers)

    fakes = {name: types.ModuleType(name) for name in ("torchvision", "IPython", "torchsummary")}
    fakes["torchvision"].models = types.SimpleNamespace(alexnet=alexnet, vgg16=vgg16)  # type: ignore[attr-defined]
    fakes["IPython"].embed = fakes["torchsummary"].summary = None  # type: ignore[attr-defined]
    for name, module in fakes.items():
        monkeypatch.setitem(sys.modules, name, module)
    yield
    for name in [n for n in sys.modules if n.split(".")[0] in ("lpips", "stlpips_pytorch")]:
        del sys.modules[name]


def of_package(model, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    import torch

    images = [torch.from_numpy(x).permute(0, 3, 1, 2).float() / 127.5 - 1 for x in (first, second)]
    return model(*images).flatten().numpy()


def test_psnr_and_ssim_are_scikit_image_s():
    need("skimage")
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for ours, theirs in (
        (per_frame.psnr(SECOND, FIRST), lambda a, b: peak_signal_noise_ratio(a, b, data_range=255)),
        (
            per_frame.psnr(SECOND, FIRST, "target"),
            lambda a, b: peak_signal_noise_ratio(a, b, data_range=a.max()),
        ),
        (
            per_frame.ssim(SECOND, FIRST),
            lambda a, b: structural_similarity(a, b, data_range=255, channel_axis=-1, **options),
        ),
    ):
        expected = [theirs(a, b) for a, b in zip(FIRST, SECOND, strict=True)]
        assert ours == pytest.approx(expected, rel=TOLERANCE)


def test_ssim_is_torchmetrics_s_away_from_the_border_that_it_reflects():
    need("torchmetrics")
    import torch
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    images = [torch.from_numpy(x).permute(0, 3, 1, 2).float() for x in (SECOND, FIRST)]
    _, full = ssim(*images, data_range=255.0, sigma=1.5, reduction="none", return_full_image=True)
    expected = full[:, :, 5:-5, 5:-5].mean(dim=(1, 2, 3)).numpy()
    assert per_frame.ssim(SECOND, FIRST) == pytest.approx(expected, rel=TOLERANCE)


@pytest.mark.parametrize(("net", "short"), [("alexnet", "alex"), ("vgg16", "vgg")])
def test_lpips_is_the_package_s_with_its_heads_and_a_random_trunk(net, short, stand_ins):
    need("lpips")
    import lpips as package
    import torch

    torch.manual_seed(0)
    model = package.LPIPS(net=short, pnet_rand=True, verbose=False)
    trunk = {name: value.numpy() for name, value in model.net.state_dict().items()}
    heads = pickles.read_arrays(weights.packaged(f"lpips-{net}"))
    loaded = lpips.make_weights(trunk, heads, net)
    found = lpips.lpips(FIRST, SECOND, loaded, lpips.NETWORKS[net][False])
    assert found == pytest.approx(of_package(model, FIRST, SECOND), rel=TOLERANCE)


@pytest.mark.parametrize(("net", "short"), [("alexnet", "alex"), ("vgg16", "vgg")])
def test_st_lpips_is_the_package_s_with_its_weights(net, short, stand_ins):
    need("stlpips_pytorch")
    from stlpips_pytorch import stlpips

    model = stlpips.LPIPS(net=short, variant="shift_tolerant", verbose=False)
    state = pickles.read_arrays(weights.packaged(f"stlpips-{net}"))
    found = lpips.lpips(FIRST, SECOND, lpips.make_weights(state, state, net), lpips.NETWORKS[net][True])
    assert found == pytest.approx(of_package(model, FIRST, SECOND), rel=TOLERANCE)


def test_frechet_and_kernel_distances_are_torchmetrics_s():
    need("torchmetrics")
    import torch
    from torchmetrics.image.fid import _compute_fid
    from torchmetrics.image.kid import poly_mmd

    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(120, 40)) @ rng.normal(size=(40, 40)) for _ in range(2))
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    expected = _compute_fid(x.mean(0), torch.cov(x.T), y.mean(0), torch.cov(y.T)).item()
    assert distances.frechet_distance(a, b) == pytest.approx(expected, rel=TOLERANCE)
    assert distances.kernel_distance(a, b) == pytest.approx(poly_mmd(x, y).item(), rel=TOLERANCE)


def test_motion_smoothness_is_vbench_s(tmp_path, monkeypatch):
    """Of its network on random weights. What vbench imports besides is replaced by names."""
    need("torch", "vbench", "decord", remedy="pip install --no-deps vbench, beside the extra parity")
    import cv2
    import torch

    for name in ("omegaconf", "torchvision", "torchvision.transforms"):
        fake = types.ModuleType(name)
        fake.__getattr__ = lambda name: types.SimpleNamespace(BICUBIC=0, BILINEAR=0)  # type: ignore[method-assign]
        monkeypatch.setitem(sys.modules, name, fake)
    from vbench.motion_smoothness import MotionSmoothness

    torch.manual_seed(0)
    theirs = MotionSmoothness.__new__(MotionSmoothness)
    theirs.device, theirs.niters, theirs.model = "cpu", 1, interpolation._network().eval()
    theirs.initialization()
    between = interpolation.load_between({k: v.numpy() for k, v in theirs.model.state_dict().items()})
    frames = np.stack([cv2.resize(frame, (150, 113)) for frame in (*FIRST, *SECOND, *FIRST)])
    for number, frame in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame[..., ::-1])
    found = interpolation.motion_smoothness(frames, between)
    assert found.std() > 0  # the network does draw something
    assert found.mean() == pytest.approx(theirs.motion_score(str(tmp_path)), rel=TOLERANCE)
    for name in [name for name in sys.modules if name.partition(".")[0] == "vbench"]:
        del sys.modules[name]
