r"""The model of the release, trained as in the paper (arXiv 2509.02460) or with the release's recipe.

    gencompositor train --config configs/gencompositor_6b.py --workdir runs/6b \
        --config.init=checkpoints/released --config.data.path=data/VideoComp

Backbone and background branch are trained on 49 frames of 480 x 720. The state (weights, EMA and two moments
in float32: 16 bytes per parameter, 94 GB, and 23 GB of gradients during a step) is sharded over `fsdp`:

    8 GPUs of 80 GB         no change: fsdp 8, one clip each
    16 GPUs on 2 hosts      --config.mesh.data=2 --config.batch_size=16, or --config.mesh.context=2
    TPU v5p-8, 4 chips      --config.optimizer.accumulate=2 (fsdp 4)
    TPU v5p-16, 8 chips     no change
    TPU v5p-64, 32 chips    --config.mesh.context=4 (fsdp 8)

launch/ has a script for each. Arguments, separated by commas (configs/gencompositor_6b.py:release,lora):

    release     the release's recipe: the branch is frozen, gamma is at least 0.3
    lora        low-rank adapters on the backbone's attention alone, for a style or a kind of element: the
                state is little more than the frozen weights (12 GB), so `fsdp` may be smaller
    runlocal    a trial of a minute on a laptop, with the same recipe
"""

import ml_collections

from gencompositor_jax.configs.common import base, runlocal, switches


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """arg: any of "release", "lora" and "runlocal", separated by commas."""
    given = switches(arg, "release", "lora", "runlocal")
    config = base()

    # `base` has what the paper and the release share: AdamW at 2e-5 with betas 0.9 and 0.95, decay 1e-4,
    # clipping at 1.0, 1,000 steps of warm-up, one cosine cycle; 8 clips per step in bfloat16; 20 % removal,
    # 30 % drawn mask shapes, gamma 0.4 to 1.9, mask_weight 5.
    config.arch = "released"
    config.steps = 20_000

    if given.release:
        config.trainable = "^backbone/"
        config.data.gamma = (0.3, 1.9)

    if given.lora:
        config.trainable, config.lora.rank, config.lora.alpha = "", 64, 64.0
        config.optimizer.learning_rate = 1e-4
        config.steps, config.optimizer.warmup = 2_000, 100

    if given.runlocal:
        runlocal(config)
        if given.lora:
            config.lora.rank = 4
    return config
