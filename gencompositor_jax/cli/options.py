"""Arguments that subcommands share."""

import argparse
from typing import Any, get_args

from gencompositor_jax.arch import Solver
from gencompositor_jax.controls.geometry.easing import Easing
from gencompositor_jax.controls.media.codecs import Codec
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.errors import InputError

_DEFAULTS = SamplingOptions()


def add_scene(parser: argparse.ArgumentParser) -> None:
    """Background and one layer, or a project file."""
    clips = parser.add_argument_group("what")
    clips.add_argument("--background", metavar="B", help="video file or folder of images")
    clips.add_argument("--foreground", metavar="F", help="clip of the element: file, folder or one picture")
    clips.add_argument(
        "--trajectory",
        metavar="T",
        help='where it goes, in background pixels: "120,130 360,90 600,200", a .txt (x,y per line) or .json '
        'file, or "track:x,y" to follow that point of the background',
    )
    clips.add_argument(
        "--project", metavar="SCENE.json", help="read all this from a project file (several layers, too)"
    )
    how = parser.add_argument_group("how the element is placed")
    how.add_argument(
        "--scale",
        metavar="S[,S...]",
        help="background pixels per pixel of the element; several are spread over the clip (default 1)",
    )
    how.add_argument(
        "--rotation", metavar="D[,D...]", help="degrees counter-clockwise, likewise spread (default 0)"
    )
    how.add_argument(
        "--anchor",
        choices=("center", "bottom"),
        nargs="?",
        const="bottom",
        help="which point of the element is on the trajectory (default center; --anchor alone: bottom)",
    )
    how.add_argument(
        "--relative", action="store_true", help="the trajectory is in relative coordinates, 0 to 1"
    )
    how.add_argument(
        "--timing",
        choices=("arc", "frames"),
        help="points are passed at constant speed (arc, default for points), or one per frame, spread over "
        "the clip (frames, default for .txt files)",
    )
    how.add_argument("--in-frame", type=int, metavar="N", help="first frame with the element (default 0)")
    how.add_argument(
        "--out-frame",
        type=int,
        metavar="N",
        help="last frame with it (default: the last one); clip, trajectory, scale and rotation count over "
        "these frames",
    )
    how.add_argument(
        "--easing",
        choices=get_args(Easing),
        help="ease-in begins slowly, ease-out ends slowly, ease-in-out does both (default linear)",
    )
    cut = parser.add_argument_group("how the element is cut out")
    cut.add_argument(
        "--key",
        metavar="KEY",
        help="auto (default), alpha, white, green, blue or '#RRGGBB': its clip's background",
    )
    cut.add_argument(
        "--alpha",
        choices=("auto", "straight", "premultiplied"),
        help="whether its own alpha is multiplied into its colours (default auto: premultiplied if no colour "
        "exceeds alpha and colours fade with it)",
    )
    cut.add_argument("--mask", metavar="M", help="a clip or picture that is white where the element is")
    cut.add_argument(
        "--segment",
        metavar="WHAT",
        help="what to find in its clip, whatever the background: auto (what is salient), point:x,y or "
        'box:x,y,x,y (upper left and lower right corner) in the first frame, or words such as "a white gull"',
    )
    add_segment_weights(cut)
    cut.add_argument(
        "--extend",
        choices=("error", "loop", "hold"),
        help="if the element's clip is shorter than the result (default error)",
    )
    add_clip(parser)


def add_segment_weights(parser: Any) -> None:
    """Where the weights of SAM 2 and Grounding DINO are; parser: or a group of its arguments."""
    parser.add_argument(
        "--segment-weights",
        metavar="DIR",
        help="the folder that holds those of SAM 2 and Grounding DINO, for points, boxes and words (default: "
        "$GENCOMPOSITOR_SEGMENTERS, or the hub's cache)",
    )


def use_segment_weights(args: argparse.Namespace) -> None:
    """Name that folder, if it was passed. Raises InputError."""
    if args.segment_weights is not None:
        from gencompositor_jax.controls.element.segmenters import stored

        stored.use(args.segment_weights)


def add_clip(parser: argparse.ArgumentParser) -> None:
    """Which frames of the background."""
    clip = parser.add_argument_group("which frames")
    clip.add_argument(
        "--frames",
        type=int,
        metavar="N",
        help="how many (default: all of the background, or of the element if it is shorter and not extended)",
    )
    clip.add_argument("--fps", type=float, help="resample to this rate (default: the background's)")
    clip.add_argument(
        "--range",
        type=range_of,
        metavar="FIRST-LAST",
        help="these, both included, in the background's own numbers: of image files (1001-1049), or of the "
        "frames of a video, from 0; instead of --start and --end",
    )
    clip.add_argument("--start", type=float, metavar="SECONDS", help="begin here (default 0)")
    clip.add_argument("--end", type=float, metavar="SECONDS", help="end here (default: the background's end)")
    clip.add_argument(
        "--gaps",
        choices=("hold", "error"),
        help="if numbers of an image sequence are missing: repeat the frame before (default), or refuse",
    )
    clip.add_argument(
        "--plate-colour",
        metavar="NAME",
        help="what the background's values mean: sRGB, Rec.709, Rec.2020, P3, HLG, PQ, linear, or a colour "
        "space of OpenColorIO's ACES configuration such as ACEScg (default: what the file states); what is "
        "written at the plate's depth has the same, or --output-colour",
    )


def range_of(text: str) -> tuple[int, int]:
    """First and last frame, from the text of --range, as argparse's types are called."""
    from gencompositor_jax.controls.media.ranges import parse_range

    try:
        return parse_range(text, "")
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error).strip()) from error


def add_model(parser: argparse.ArgumentParser) -> None:
    """Which model sees what."""
    model = parser.add_argument_group("the model")
    model.add_argument(
        "--checkpoint", metavar="DIR", help="folder of a checkpoint (default: the embedded model)"
    )
    model.add_argument(
        "--weights",
        choices=("int8",),
        help="keep the network's in 8 bits: half of the memory, and nearly the same result",
    )
    model.add_argument(
        "--framing",
        choices=("auto", "whole", "follow"),
        help="what the model is shown: the whole background, a window that follows the element, or (auto, "
        "default) such a window where the element would be too small in the whole",
    )
    model.add_argument(
        "--tiles",
        choices=("released", "none"),
        help="run the VAE in the release's tiles or on whole frames (default: as the checkpoint says)",
    )
    mask = parser.add_argument_group("the mask (default: as the checkpoint was trained)")
    mask.add_argument(
        "--sigma", type=float, metavar="PIXELS", help="of the Gaussian that inflates it, in model pixels"
    )
    mask.add_argument(
        "--tau", type=float, metavar="T", help="its response from which a pixel is inside, above 0, at most 1"
    )
    mask.add_argument(
        "--latent-mask",
        choices=("released", "union"),
        help="how latents see it: one frame each, or all that moves between",
    )


def add_compiled(parser: argparse.ArgumentParser) -> None:
    """Where the compiled programs are."""
    parser.add_argument(
        "--compiled",
        metavar="DIR",
        help="programs of gencompositor compile, made on this kind of machine (default: compile what is "
        "needed, and keep it in ~/.cache/gencompositor)",
    )


def add_mesh(parser: argparse.ArgumentParser, clips: str) -> None:
    """Which devices do what."""
    parser.add_argument(
        "--mesh",
        metavar="AXIS=N,...",
        help="devices along data (clips), tensor (heads), context (tokens) and fsdp (weights and clips): "
        f"data=2,tensor=4 (default: all of this machine, for {clips})",
    )


def mesh_of(text: str | None) -> dict[str, int] | None:
    """Sizes by axis from "fsdp=8,context=2". Raises InputError for other text."""
    if text is None:
        return None
    sizes: dict[str, int] = {}
    for part in text.split(","):
        axis, _, size = part.partition("=")
        if axis.strip() in sizes:
            raise InputError(f"--mesh {text}: {axis.strip()} stands there twice; keep one")
        try:
            sizes[axis.strip()] = int(size)
        except ValueError as error:
            raise InputError(f"--mesh {text}: pass axes and sizes such as fsdp=8,context=2") from error

    from gencompositor_jax.sharding import check_sizes  # imports JAX

    check_sizes(sizes, "--mesh ")
    return sizes


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """How the result is generated."""
    sampling = parser.add_argument_group("sampling")
    add_steps(sampling)
    add_seed(sampling)
    sampling.add_argument("--solver", choices=get_args(Solver), help="default: the checkpoint's")
    sampling.add_argument(
        "--prompt", metavar="NAME", help="a prompt stored in the checkpoint (default: the empty one)"
    )
    sampling.add_argument(
        "--guidance",
        type=float,
        metavar="SCALE",
        help="classifier-free guidance with --prompt, 1 is the prompt alone (default "
        f"{_DEFAULTS.guidance:g}, twice the work)",
    )
    sampling.add_argument(
        "--fast",
        metavar="HOW",
        help="approximations: drop-blank (leaves out blank foreground tokens), cache:N (runs the network on "
        "every N-th step), or both with a comma between them (default: neither)",
    )
    sampling.add_argument(
        "--no-paste-back", action="store_true", help="write the model's own frames, at its own size"
    )
    sampling.add_argument(
        "--feather",
        type=float,
        metavar="PIXELS",
        help=f"soft edge of the paste-back, in model pixels (default {_DEFAULTS.feather:g})",
    )
    sampling.add_argument(
        "--detail",
        choices=("element", "model", "auto"),
        help="what the element is drawn with: its own pixels in the model's light, the model's frames, or "
        f"its own where the model drew the same (default {_DEFAULTS.detail})",
    )


def add_steps(parser: Any) -> None:
    """The number of denoising steps; parser: or a group of its arguments."""
    parser.add_argument("--steps", type=int, metavar="N", help="denoising steps (default: the checkpoint's)")


def add_seed(parser: Any) -> None:
    """The seed of the noise; parser: or a group of its arguments."""
    parser.add_argument(
        "--seed", type=int, metavar="N", help=f"same seed, same result (default {_DEFAULTS.seed})"
    )


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    """Where the result goes."""
    output = parser.add_argument_group("output")
    output.add_argument(
        "--out",
        default=default,
        metavar="OUT",
        help=f"a video, or a folder for PNG images if the name has no ending (default {default}); the "
        "contact sheet, the facts and the project file are written beside it. Of compose and remove also "
        "images with the plate's own values and numbers: name.####.exr, .png or .tif",
    )
    output.add_argument("--overwrite", action="store_true", help="replace what is there")


def add_element_output(parser: argparse.ArgumentParser) -> None:
    """The element as a clip."""
    parser.add_argument(
        "--save-element",
        metavar="ELEMENT",
        help="also write what was cut out, with straight alpha, to look at, correct and reuse: element.mov "
        "(ProRes 4444), element.mkv (FFV1), element_####.png or element_####.tif (16 bits)",
    )


def add_layer(parser: argparse.ArgumentParser) -> None:
    """What a compositor keeps working with: the plate's own values, and the edit as a layer."""
    parser.add_argument(
        "--codec",
        choices=get_args(Codec),
        help="of a video: h264 (default) is a viewing copy of 8 bits, all others have the plate's own "
        "values, ffv1 bit for bit outside the mask",
    )
    parser.add_argument(
        "--exr-layers",
        action="store_true",
        default=None,
        help="EXR images also have the layers edit, mask, foreground and difference",
    )
    parser.add_argument(
        "--output-colour",
        metavar="NAME",
        help="colour of what is written at the plate's depth, a name of --plate-colour: linear light goes to "
        "EXR, all else to 16-bit images and videos (default: the plate's)",
    )
    parser.add_argument(
        "--layer",
        metavar="LAYER",
        help="also write the edit as straight-alpha RGBA that gives the result over the plate: edit.mov "
        "(ProRes 4444), edit.mkv (FFV1), edit_####.png or edit_####.tif (16 bits); edit_####.exr over an EXR "
        "plate is premultiplied",
    )


def add_resume(parser: argparse.ArgumentParser) -> None:
    """An interrupted run, taken up."""
    parser.add_argument(
        "--continue",
        dest="resume",
        action="store_true",
        help="take up an interrupted run of the same command: images that are whole stay, and a finished run "
        "is left as it is",
    )
