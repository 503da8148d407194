"""What every config starts from: all keys there are, with what they mean.

A config calls `base()`, changes what is its own and returns it. The keys are fixed: one that isn't here is
refused, in a config file and on the command line (`--config.optimizer.learning_rate=1e-4`) alike.
"""

import difflib
from types import SimpleNamespace

import ml_collections
from ml_collections import config_dict

from gencompositor_jax.sharding import RULES
from gencompositor_jax.training.lora import TARGETS


def base() -> ml_collections.ConfigDict:
    """A new config with the paper's recipe (arXiv 2509.02460) and all keys, which are fixed."""
    config = ml_collections.ConfigDict()

    # What is trained. arch: a preset of gencompositor_jax/arch.py. arch_changes: fields that differ from it,
    # by their dotted names: config.arch_changes.frames = 17, --config.arch_changes.backbone.num_layers=12.
    config.arch = "released"
    config.arch_changes = ml_collections.ConfigDict()
    # Weights to start from: the folder of a model checkpoint, or "" for fresh ones. init_missing: "error", or
    # "fresh" to start arrays that it lacks or has in another shape afresh.
    config.init = ""
    config.init_missing = "error"
    # A regular expression, looked for in paths such as backbone/blocks/attention/query/kernel. What doesn't
    # match stays as it is, in compute_dtype, and has neither gradient, moments nor average. "": nothing.
    config.trainable = ".*"
    # Low-rank adapters, trained beside what `trainable` says: set that to "" to train nothing else.
    config.lora = ml_collections.ConfigDict()
    config.lora.rank = 0  # 0: none
    config.lora.alpha = 16.0  # a kernel is used as W + alpha / rank * a b
    config.lora.targets = TARGETS  # a regular expression on kernels' paths

    config.seed = 0  # of weights, noise, timesteps, order and augmentation: the same seed, the same run
    config.steps = 10_000  # updates; the learning rate's cosine ends there
    config.batch_size = 8  # clips per update, over all devices and processes
    config.compute_dtype = "bfloat16"  # master weights, averages and moments are float32 in any case
    # What is kept for the gradient: "none" computes nothing again and keeps all activations, "blocks" keeps
    # each block's input and attention, "offload" keeps these in the host's memory.
    config.remat = "blocks"

    # Devices along each axis of the mesh (gencompositor_jax/sharding.py says what they do), -1 for all the
    # rest; data x fsdp x accumulate divides the batch. rules: (regular expression on a parameter's path, one
    # axis for each dimension), the first match decides.
    config.mesh = ml_collections.ConfigDict()
    config.mesh.data = 1
    config.mesh.fsdp = -1
    config.mesh.context = 1
    config.mesh.tensor = 1
    config.sharding = ml_collections.ConfigDict()
    config.sharding.rules = RULES

    # source: "procedural" (endless), "cache" (procedural clips, made once), "videocomp" (the released
    # training's folder), "arrayrecord" or "tfds" (from `gencompositor data build`). path: its folder.
    config.data = ml_collections.ConfigDict()
    config.data.source = "videocomp"
    config.data.path = ""
    config.data.workers = 8  # processes per host that read; 0 for threads of the training process
    config.data.prefetch = 4  # batches made ahead, over all workers
    config.data.max_broken = 0.01  # share of records that may be unreadable before the run stops with a list
    config.data.fps = 8.0  # videocomp: frames are taken at about this rate
    config.data.start = "first"  # videocomp: "first" frame of a row's range, or a "random" one
    config.data.clips = 6_000  # cache: clips of whole scenes
    config.data.followed_clips = 3_000  # cache: clips seen through a window that follows the element
    config.data.followed = 0.0  # cache, procedural: share of clips seen through such a window
    # Augmentation, drawn for each clip.
    config.data.removal = (
        0.2  # share that teaches removal: a white foreground, the empty background as target
    )
    config.data.gamma = (0.4, 1.9)  # of the foreground, so that a copy isn't the right answer
    config.data.colour_cast = 0.0  # spread of an extra gamma per colour channel
    config.data.mask_shapes = 0.3  # share whose mask becomes a drawn shape
    config.data.flip = False  # mirrored and reversed in time, each in half of the clips

    # Velocity error of the whole frame, plus mask_weight times that inside the mask.
    config.loss = ml_collections.ConfigDict()
    config.loss.mask_weight = 5.0
    config.loss.timestep_bias = 1.0  # 1: timesteps are uniform; above it, noisy ones are drawn more often
    # Highest weight of a prediction's error where the network predicts noise or x0 (velocity weighs 1).
    config.loss.weight_cap = 1_000.0

    # AdamW: linear warm-up, then one cosine cycle to zero over all steps.
    config.optimizer = ml_collections.ConfigDict()
    config.optimizer.learning_rate = 2e-5
    config.optimizer.warmup = 1_000  # steps
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.95
    config.optimizer.weight_decay = 1e-4  # of kernels alone
    config.optimizer.clip = 1.0  # of the gradient's global norm
    config.optimizer.ema = (
        0.999  # decay of the weights' average, which is sampled and exported; 0: no average
    )
    config.optimizer.accumulate = 1  # parts that a batch goes through the network in, one after another

    # To go on from. SIGTERM saves as well, and so does the end.
    config.checkpoint = ml_collections.ConfigDict()
    config.checkpoint.every = 500  # steps
    config.checkpoint.keep_last = 2
    config.checkpoint.keep_every = config_dict.placeholder(int)  # steps; these are never deleted

    config.log_every = 10  # steps
    # A contact sheet of fixed clips, sampled from the average.
    config.validation = ml_collections.ConfigDict()
    config.validation.every = 1_000  # steps; 0: never
    config.validation.clips = 4
    config.validation.steps = 20  # of the sampler
    # A window of the profiler, for TensorBoard.
    config.profile = ml_collections.ConfigDict()
    config.profile.first = 10  # step
    config.profile.steps = 0  # how many; 0: none

    return config.lock()


def switches(arg: str, *known: str) -> SimpleNamespace:
    """The argument of a `get_config`, such as "lora,runlocal", as booleans by name.

    Raises ValueError for a switch that isn't known.
    """
    given = [name.strip() for name in (arg or "").split(",") if name.strip()]
    for name in given:
        if name not in known:
            meant = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {meant[0]!r}?" if meant else f"known are {', '.join(map(repr, known))}"
            raise ValueError(f"unknown config argument {name!r}; {hint}")
    return SimpleNamespace(**{name: name in given for name in known})


def runlocal(config: ml_collections.ConfigDict) -> None:
    """Turns a config into a trial of about a minute on a laptop, through the same code: a tiny network, few
    steps of procedural clips, every kind of output once.
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
