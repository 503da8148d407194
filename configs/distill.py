"""A student of few sampling steps, by consistency distillation of a checkpoint (training/distillation.py).

    gencompositor train --config configs/distill.py --workdir runs/student

distils the embedded model; `:released` a converted checkpoint, `--config.init=checkpoints/released`, on the
mesh and the data of gencompositor_6b.py: two more evaluations of the network per step, and 12 GB of weights
for the teacher in addition to the state. `:runlocal` is a smoke test with the embedded model. The
student's checkpoint is sampled in 4 steps unless told otherwise (`--config.arch_changes.diffusion.steps`, or
`--steps` when it is used).
"""

import ml_collections

from gencompositor_jax import checkpoints
from gencompositor_jax.configs import gencompositor_6b, tiny
from gencompositor_jax.configs.common import switches


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """arg: "" (the embedded model), "released", or "runlocal" (a smoke test)."""
    given = switches(arg, "released", "runlocal")
    if given.released and not given.runlocal:
        config = gencompositor_6b.get_config()
        config.steps, config.optimizer.warmup = 2_000, 100
    else:
        config = tiny.get_config("linear,runlocal" if given.runlocal else "linear")
        config.init = str(checkpoints.packaged())
        config.loss.timestep_bias = 1.0
        config.optimizer.learning_rate = 2e-4
        if not given.runlocal:
            config.steps, config.optimizer.warmup = 400, 20
    with config.unlocked():
        if not given.released or given.runlocal:
            embedded = checkpoints.read_metadata(checkpoints.packaged()).arch
            config.arch_changes.backbone = {"num_layers": embedded.backbone.num_layers}
        config.arch_changes.diffusion = {"steps": 4, "solver": "consistency"}
    config.distill.intervals = 20
    config.optimizer.ema = 0.95  # of the network that the student learns from
    config.validation.steps = 4
    return config
