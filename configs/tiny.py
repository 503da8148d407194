"""Small models that are trained on procedural clips; `:linear,gpu` is the embedded one.

    gencompositor train --config configs/tiny.py:linear --workdir runs/linear

`:linear` trains the network on the latents of a linear codec, with the foreground's tokens at their place in
the target, which learns several times faster per clip; its clips are rendered as they are read. A stopped run
resumes from its last checkpoint. `:linear,gpu` has six blocks instead of four.

Without an argument the latents are the pixels themselves, and clips are rendered once and kept in `data.path`
(0.55 MB each). `:gpu` is the long recipe for one GPU, `:runlocal` a smoke test of a minute.
"""

import ml_collections

from gencompositor_jax.configs.common import base, switches


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """arg: "" (a CPU, hours), "gpu" (one GPU, 30,000 steps of batch 64), "linear" (the linear codec), or
    "runlocal" (a smoke test), separated by commas.
    """
    given = switches(arg, "gpu", "linear", "runlocal")
    config = base()
    config.arch = "tiny"
    config.steps = 4_500
    config.batch_size = 16
    config.compute_dtype = "float32"
    config.remat = "none"
    config.mesh.data, config.mesh.fsdp = -1, 1  # replicated: the state is small

    config.data.source = "cache"
    config.data.path = "data/procedural"
    config.data.workers = 0
    config.data.clips = 6_000
    config.data.followed_clips = 3_000
    # Most examples are seen through a window that follows the element, as `compose` does with small ones:
    # there the foreground is at the element's position, which the network learns first.
    config.data.followed = 0.9
    config.data.colour_cast = 0.1
    config.data.removal = 0.1
    config.data.mask_shapes = 0.0

    # With the paper's 5.0 most of the loss is that of the background, which the paste-back replaces.
    config.loss.mask_weight = 20.0
    config.loss.timestep_bias = 3.0
    config.loss.weight_cap = 3.0

    config.optimizer.learning_rate = 1.5e-3
    config.optimizer.warmup = 200
    config.optimizer.b2 = 0.98
    config.optimizer.weight_decay = 0.01

    config.log_every = 20
    config.checkpoint.every = 250
    config.validation.every = 500

    if given.gpu:
        config.arch = "small"
        config.steps, config.batch_size = 30_000, 64
        config.data.clips, config.data.followed_clips, config.data.followed = 20_000, 10_000, 0.5
        config.optimizer.learning_rate = 1e-3
        config.compute_dtype = "bfloat16"
        config.checkpoint.every = config.validation.every = 2_000
    if given.linear:
        config.arch = "linear"
        config.data.source, config.data.path = "procedural", ""
        # Its foreground needs no window to be near the target: `trajectory` places the tokens.
        config.data.followed = 0.2
        # Half of the elements come from another light than the scene's, as all do in use.
        config.data.other_light = 0.5
        config.data.gamma, config.data.colour_cast = (0.35, 2.4), 0.15
        # Enough for the whole mask and the whole element in 95 % of the clips, at 0.44 of the work.
        config.tokens.video = config.tokens.foreground = 0.5
        config.optimizer.learning_rate = 1.2e-3
        config.optimizer.warmup = 100
        config.optimizer.ema = 0.995
        if given.gpu:
            # Rendering takes longer than the network's step, so every clip is used in several, and the
            # network is deeper.
            config.data.echo = 8
            with config.unlocked():
                config.arch_changes = ml_collections.ConfigDict({"backbone": {"num_layers": 6}})
            config.tokens.video = config.tokens.foreground = 0.6
            config.optimizer.ema = 0.999
            config.optimizer.warmup = 200
            config.data.workers, config.data.prefetch = 14, 8
        else:
            config.steps, config.batch_size = 2_000, 8
            config.checkpoint.every = config.validation.every = 100
    if given.runlocal:
        config.steps, config.batch_size, config.data.workers = 20, 2, 0
        config.data.clips, config.data.followed_clips = 8, 8
        if not given.linear:
            config.data.path = "data/procedural-runlocal"
        config.optimizer.warmup, config.log_every = 5, 5
        config.checkpoint.every, config.validation.every = 10, 20
        config.validation.clips, config.validation.steps = 1, 2
    return config
