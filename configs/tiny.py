"""The embedded model: trained on procedural clips.

    gencompositor train --config configs/tiny.py --workdir runs/tiny

Clips are made once and kept in `data.cache` (about 0.8 MB each). Stop and start again as you like: training
goes on from its last checkpoint. `--config configs/tiny.py:gpu` is the long recipe for one GPU; `:runlocal`
is a smoke test of a minute.
"""

import ml_collections


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """arg: "" (a CPU, hours), "gpu" (one GPU, 30,000 steps of batch 64) or "runlocal" (a smoke test)."""
    config = ml_collections.ConfigDict()
    config.arch = "tiny"
    config.seed = 0
    config.steps = 4_500
    config.batch_size = 16
    config.compute_dtype = "float32"

    config.data = ml_collections.ConfigDict()
    config.data.cache = "data/procedural"
    config.data.clips = 6_000
    config.data.followed_clips = 3_000
    # Share of clips seen through a window that follows the element, as compose sees small elements: there the
    # foreground lies where the element does, which is learnt first.
    config.data.followed = 0.9
    config.data.gamma = (0.4, 1.9)
    config.data.colour_cast = 0.1  # spread of an extra gamma per colour channel
    config.data.removal = 0.1

    config.loss = ml_collections.ConfigDict()
    config.loss.mask_weight = (
        20.0  # the paper's 5.0 teaches mostly the background, which here is given anyway
    )
    config.loss.timestep_bias = 3.0
    config.loss.weight_cap = 3.0

    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 1.5e-3
    config.optimizer.warmup = 200
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.98
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip = 1.0
    config.optimizer.ema = 0.999

    config.log_every = 20
    config.checkpoint_minutes = 5.0

    match arg:
        case "":
            pass
        case "gpu":
            config.arch = "small"
            config.steps, config.batch_size = 30_000, 64
            config.data.clips, config.data.followed_clips, config.data.followed = 20_000, 10_000, 0.5
            config.optimizer.learning_rate = 1e-3
            config.compute_dtype = "bfloat16"
        case "runlocal":
            config.steps, config.batch_size = 20, 2
            config.data.clips, config.data.followed_clips = 8, 8
            config.data.cache = "data/procedural-runlocal"
            config.optimizer.warmup, config.log_every = 5, 5
        case _:
            raise ValueError(f"unknown config argument {arg!r}: known are '', 'gpu' and 'runlocal'")
    return config
