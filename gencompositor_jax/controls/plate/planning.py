"""What a scene asks to be written with the plate's own values."""

from gencompositor_jax.controls.media.ranges import seconds_of
from gencompositor_jax.controls.media.video import Media
from gencompositor_jax.controls.plate.delivery import Delivery, plan
from gencompositor_jax.controls.scene import Scene


def plan_scene(scene: Scene, media: Media, out: str, layer: str | None, overwrite: bool) -> Delivery | None:
    """`delivery.plan` with the fields of a scene. media: its background's."""
    start, end = scene.start, scene.end
    if scene.range is not None:
        start, end = seconds_of(media, scene.range, scene.fps)
    return plan(
        media,
        out,
        layer,
        codec=scene.codec,
        exr_layers=scene.exr_layers,
        colour=scene.plate_colour,
        output_colour=scene.output_colour,
        fps=scene.fps,
        start=start,
        end=end,
        overwrite=overwrite,
    )
