"""Where a call has passed all checks: nothing beyond is run."""

from typing import Any, NoReturn


class Accepted(BaseException):  # noqa: N818 (no error; `except Exception` must not see it)
    """A call was about to sample, train or compile."""


def accepted(*_: Any, **__: Any) -> NoReturn:
    """In place of what would work long."""
    raise Accepted


class _Run:
    """In place of `CompiledTogether`."""

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise Accepted


def stop_before_heavy_work() -> list[tuple[Any, str, Any]]:
    """Replace what samples, trains or compiles. Returns what was replaced: (object, attribute, value)."""
    from gencompositor_jax import compositor
    from gencompositor_jax.data_pipelines import clip_cache
    from gencompositor_jax.evaluation import heldout
    from gencompositor_jax.perf.benchmark import sampling, training
    from gencompositor_jax.perf.plan import compiling
    from gencompositor_jax.training import loop

    replaced: list[tuple[Any, str, Any]] = []
    for owner, name, new in (
        (compositor.Compositor, "render", accepted),
        (compositor.Compositor, "compile", accepted),
        (heldout, "evaluate", accepted),
        (loop, "CompiledTogether", _Run),
        (clip_cache, "in_order", accepted),
        (sampling, "run", accepted),
        (training, "run", accepted),
        (compiling, "make_plan", accepted),
    ):
        replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, new)
    return replaced
