"""The base of every config: all keys, with their meaning and their defaults.

A config calls `base()`, changes values and returns it. The set of keys is fixed: an unknown one is an error,
in a config file and on the command line (`--config.optimizer.learning_rate=1e-4`).
"""

import difflib
from types import SimpleNamespace

import ml_collections
from ml_collections import config_dict

from gencompositor_jax.sharding import RULES
from gencompositor_jax.training.lora import TARGETS


def base() -> ml_collections.ConfigDict:
    """A new config with all keys, set to the paper's recipe (arXiv 2509.02460)."""
    config = ml_collections.ConfigDict()

    # ---- The model.
    # A preset of gencompositor_jax/arch.py.
    config.arch = "released"
    # Fields that differ from the preset, by their dotted names: config.arch_changes.frames = 17,
    # --config.arch_changes.backbone.num_layers=12.
    config.arch_changes = ml_collections.ConfigDict()
    # The folder of a model checkpoint to start from; "" initialises the weights.
    config.init = ""
    # Arrays that `init` lacks or has in another shape: "error" refuses them, "fresh" initialises them.
    config.init_missing = "error"
    # Which parameters are trained: a regular expression searched for in paths such as
    # backbone/blocks/attention/query/kernel. The others are frozen: stored in compute_dtype, without
    # gradient, moments and EMA. "" freezes all.
    config.trainable = ".*"

    # Low-rank adapters, trained in addition to `trainable`; with trainable = "" nothing else is trained.
    # rank 0 trains none. A kernel W is used as W + alpha / rank * a b. targets: a regular expression on the
    # paths of kernels.
    config.lora = ml_collections.ConfigDict()
    config.lora.rank = 0
    config.lora.alpha = 16.0
    config.lora.targets = TARGETS

    # ---- The run.
    # Seed of weights, noise, timesteps, data order and augmentation.
    config.seed = 0
    # Number of updates; the learning rate's cosine ends there.
    config.steps = 10_000
    # Clips per update, over all devices and processes.
    config.batch_size = 8
    # The network's dtype. Master weights, EMA and moments are always float32.
    config.compute_dtype = "bfloat16"
    # What is stored for the gradient: "none" stores all activations, "blocks" the input and the attention of
    # each block, and "offload" stores the latter in host memory.
    config.remat = "blocks"

    # Devices along each axis of the mesh (see gencompositor_jax/sharding.py), -1 for all remaining ones.
    # data x fsdp x accumulate must divide the batch; context shards the tokens, tensor the heads.
    config.mesh = ml_collections.ConfigDict()
    config.mesh.data = 1
    config.mesh.fsdp = -1
    config.mesh.context = 1
    config.mesh.tensor = 1
    # rules: (regular expression on a parameter's path, one mesh axis per dimension); the first match counts.
    config.sharding = ml_collections.ConfigDict()
    config.sharding.rules = RULES

    # ---- Data.
    config.data = ml_collections.ConfigDict()
    # "procedural" (endless), "cache" (procedural clips, made once), "videocomp" (the released training's
    # folder), "arrayrecord" or "tfds" (from `gencompositor data build`).
    config.data.source = "videocomp"
    # Folder of the data.
    config.data.path = ""
    # Processes per host that read; 0 reads in threads of the training process.
    config.data.workers = 8
    # Batches that are read in advance, over all workers.
    config.data.prefetch = 4
    # Fraction of unreadable records above which the run stops, with a list of them.
    config.data.max_broken = 0.01
    # videocomp: frames per second at which a video is sampled, approximately.
    config.data.fps = 8.0
    # videocomp: start at the "first" frame of a row's range, or at a "random" one.
    config.data.start = "first"
    # cache: number of clips of whole scenes.
    config.data.clips = 6_000
    # cache: number of clips seen through a window that follows the element.
    config.data.followed_clips = 3_000
    # cache, procedural: fraction of examples that are seen through such a window.
    config.data.followed = 0.0
    # cache, procedural: fraction of clips whose foreground is in another light than the target's, instead of
    # consisting of the target's own pixels.
    config.data.other_light = 0.0
    # Number of steps that use a batch, for data that is read more slowly than a step takes.
    config.data.echo = 1

    # Augmentation, drawn for each example.
    # Fraction that teaches removal: a white foreground, with the background alone as target.
    config.data.removal = 0.2
    # Range of the foreground's gamma (luminance) augmentation, which keeps a plain copy from being correct.
    config.data.gamma = (0.4, 1.9)
    # Spread of an additional gamma per colour channel.
    config.data.colour_cast = 0.0
    # Fraction whose mask is replaced by a drawn shape.
    config.data.mask_shapes = 0.3
    # Whether to mirror half of the clips and to reverse half of them in time.
    config.data.flip = False

    # ---- Loss.
    # The mean squared velocity error of the whole frame, plus mask_weight times that inside the mask.
    config.loss = ml_collections.ConfigDict()
    config.loss.mask_weight = 5.0
    # 1 draws timesteps uniformly; above 1, noisy ones are drawn more often.
    config.loss.timestep_bias = 1.0
    # Upper bound of the weight that turns an error in noise or x0 into a velocity error.
    config.loss.weight_cap = 1_000.0

    # Consistency distillation: the network learns to name the end of a sampling pass of its teacher, the
    # checkpoint `init`, at once.
    config.distill = ml_collections.ConfigDict()
    # DDIM steps of the teacher's pass, a divisor of its timesteps; 0: no distillation.
    config.distill.intervals = 0

    # Fractions of the tokens that the network receives in training; sampling has all of them. Of the video
    # those nearest to the mask come first, of the foreground the white ones last.
    config.tokens = ml_collections.ConfigDict()
    config.tokens.video = 1.0
    config.tokens.foreground = 1.0

    # ---- Optimiser: AdamW with linear warm-up, then one cosine cycle to zero over all steps.
    config.optimizer = ml_collections.ConfigDict()
    # The highest learning_rate, reached after `warmup` steps.
    config.optimizer.learning_rate = 2e-5
    config.optimizer.warmup = 1_000
    # Decay of the first (b1) and of the second (b2) moments.
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.95
    # Applied to kernels only.
    config.optimizer.weight_decay = 1e-4
    # Upper bound of the gradient's global norm.
    config.optimizer.clip = 1.0
    # Decay of the weights' EMA, which is sampled from and exported; 0 keeps no EMA.
    config.optimizer.ema = 0.999
    # Number of microbatches that a batch is divided into.
    config.optimizer.accumulate = 1

    # ---- Checkpoints. The end of a run and SIGTERM save one, too.
    config.checkpoint = ml_collections.ConfigDict()
    # Steps between checkpoints.
    config.checkpoint.every = 500
    # Number of newest checkpoints to keep.
    config.checkpoint.keep_last = 2
    # Checkpoints of steps that this divides are never deleted.
    config.checkpoint.keep_every = config_dict.placeholder(int)
    # Whether to write the model at each checkpoint, not only at the end: it can be tried during the run.
    config.checkpoint.model = False

    # ---- Logging.
    # Steps between rows of metrics.
    config.log_every = 10
    # A contact sheet of `clips` training clips, sampled with the EMA in `steps` sampling steps. every:
    # training steps between sheets (0: none).
    config.validation = ml_collections.ConfigDict()
    config.validation.every = 1_000
    config.validation.clips = 4
    config.validation.steps = 20
    # A trace for TensorBoard's profiler, of `steps` steps (0: none), from step number `first`.
    config.profile = ml_collections.ConfigDict()
    config.profile.first = 10
    config.profile.steps = 0

    return config.lock()


def switches(arg: str, *known: str) -> SimpleNamespace:
    """The argument of a `get_config`, such as "lora,runlocal", as booleans by name.

    Raises ValueError for an unknown switch.
    """
    given = [name.strip() for name in (arg or "").split(",") if name.strip()]
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(map(repr, known))}"
            raise ValueError(f"unknown config argument {name!r}; {hint}")
    return SimpleNamespace(**{name: name in given for name in known})


def runlocal(config: ml_collections.ConfigDict) -> None:
    """Change a config into a trial of about a minute on a laptop: a tiny network and a few steps on
    procedural clips, with the same code and every kind of output.
    """
    config.arch = "tiny"
    with config.unlocked():
        config.arch_changes = ml_collections.ConfigDict(
            {
                "backbone": {"num_layers": 2, "num_heads": 1, "head_dim": 32},
                "branch": {"num_layers": 1, "num_heads": 1, "head_dim": 32},
            }
        )
    config.init = ""
    config.steps, config.batch_size, config.compute_dtype = 20, 8, "float32"
    config.data.source, config.data.path, config.data.workers = "procedural", "", 0
    config.optimizer.warmup, config.log_every = 5, 5
    config.checkpoint.every = 10
    config.validation.every, config.validation.clips, config.validation.steps = 20, 1, 2
