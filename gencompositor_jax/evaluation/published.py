"""Published figures of other methods, for the tables; always marked as published, never mixed with ours."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """A method's figures by metric, and how they were made."""

    method: str
    source: str
    conditions: str
    figures: dict[str, float]


_CO2NET = "Lu et al., IJCAI 2022 (arXiv 2205.00687), its repository's table"
_CO2NET_HOW = (
    "256 x 256, 636 test clips; PSNR's peak is the result's own range, TL on FlowNet 2 flow of other frames"
)
_PAPER = "GenCompositor (arXiv 2509.02460)"

PUBLISHED: dict[str, tuple[Row, ...]] = {
    "hyoutube": (
        Row(
            "iSSAM (backbone of CO2Net)",
            _CO2NET,
            _CO2NET_HOW,
            {"mse": 28.90, "fmse": 203.77, "psnr": 37.38, "fssim": 0.8817, "temporal_loss": 6.48},
        ),
        Row(
            "Huang et al.",
            _CO2NET,
            _CO2NET_HOW,
            {"mse": 27.89, "fmse": 199.89, "psnr": 37.44, "fssim": 0.8821, "temporal_loss": 6.49},
        ),
        Row(
            "CO2Net",
            _CO2NET,
            _CO2NET_HOW,
            {"mse": 26.50, "fmse": 186.72, "psnr": 37.61, "fssim": 0.8827, "temporal_loss": 5.11},
        ),
        Row(
            "GenCompositor",
            _PAPER,
            "size, peak and clips aren't stated; another protocol than CO2Net's",
            {"psnr": 42.0010, "ssim": 0.9487, "clip_similarity": 0.9713, "lpips": 0.0385},
        ),
    ),
    "trajectory": (
        Row(
            "GenCompositor",
            _PAPER,
            "40 groups; clip length, stride, resizing and the real set of FVD and KVD aren't stated",
            {
                "fvd": 535.71,
                "kvd": 45.91,
                "subject_consistency": 0.8975,
                "background_consistency": 0.9343,
                "motion_smoothness": 0.9869,
                "aesthetic_quality": 0.5200,
            },
        ),
    ),
    "procedural": (),
}
