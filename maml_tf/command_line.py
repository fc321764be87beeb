"""The flags of run_experiment.py, and the settings that they ask for.

Flags have the names of the original code's main.py; the settings, the paper's.
"""

import math
import re

from absl import flags

from maml_tf.configs import ImageConfig, SinusoidConfig, TrainingConfig
from maml_tf.errors import ConfigError
from maml_tf.losses import STATISTICS
from maml_tf.run_evaluation import EvaluationSettings

FLAGS = flags.FLAGS

# What the experiment is
flags.DEFINE_string(
    "datasource",
    "sinusoid",
    "the tasks: sinusoid, glyphs, omniglot, miniimagenet, or the name of a "
    "data set made by data.image_folder",
)
flags.DEFINE_integer(
    "num_classes", None, "N-way: classes of a task (images only) [5]"
)
flags.DEFINE_string(
    "baseline",
    None,
    "oracle: give the network amplitude and phase of its sinusoid; trained "
    "on all tasks jointly unless --metatrain_iterations is given",
)

# Training
flags.DEFINE_integer(
    "pretrain_iterations",
    None,
    "iterations of ordinary training on all tasks jointly, before "
    "meta-training [0; oracle: 70000]",
)
flags.DEFINE_integer(
    "metatrain_iterations",
    None,
    "meta-training iterations [sinusoid 70000; oracle 0; omniglot and "
    "miniimagenet 60000; glyphs 3000]",
)
flags.DEFINE_integer(
    "meta_batch_size",
    None,
    "tasks of a meta-update [sinusoid 25; omniglot 32, 20-way 16; "
    "miniimagenet 4; glyphs 8]",
)
flags.DEFINE_float("meta_lr", None, "outer step size beta, of Adam [0.001]")
flags.DEFINE_integer(
    "update_batch_size",
    None,
    "K: examples of a task's support set (of each class) [sinusoid: training "
    "10, evaluation 5, 10 and 20; images: 1, characters are evaluated with 5, "
    "too]",
)
flags.DEFINE_float(
    "update_lr",
    None,
    "inner step size alpha [sinusoid and miniimagenet 0.01; omniglot and "
    "glyphs 0.4; omniglot 20-way 0.1]",
)
flags.DEFINE_integer(
    "num_updates",
    None,
    "inner updates in training [1; omniglot 20-way and miniimagenet 5]; "
    "evaluation takes 10",
)
flags.DEFINE_integer("seed", None, "of initial weights and training tasks [0]")

# Network
flags.DEFINE_string(
    "norm",
    None,
    "batch_norm, layer_norm or None [sinusoid None; images batch_norm]",
)
flags.DEFINE_integer(
    "num_filters",
    None,
    "filters of a convolution (images only) [64; miniimagenet and glyphs 32]",
)
flags.DEFINE_bool(
    "conv", None, "convolutional network, else dense (images only) [True]"
)
flags.DEFINE_bool(
    "max_pool",
    None,
    "max-pool, not stride (images only) [False; miniimagenet True]",
)
flags.DEFINE_bool(
    "stop_grad", None, "first-order MAML: leave out second derivatives [False]"
)

# Runs
flags.DEFINE_bool("log", True, "write TensorBoard events")
flags.DEFINE_string("logdir", "logs", "directory of the run directories")
flags.DEFINE_string(
    "data_dir", "data/packed", "directory of the prepared data sets"
)
flags.DEFINE_bool(
    "resume",
    True,
    "go on with a run that is there; False moves it aside and begins anew",
)
flags.DEFINE_bool("train", True, "False: only evaluate")
flags.DEFINE_integer(
    "test_iter", -1, "iteration to evaluate; -1 for the newest"
)
flags.DEFINE_bool(
    "test_best",
    False,
    "evaluate the weights that did best in validation (images only)",
)
flags.DEFINE_bool(
    "test_set",
    True,
    "evaluate on test tasks; False for validation tasks (those of training "
    "are never among either)",
)
flags.DEFINE_integer("test_tasks", 600, "tasks to evaluate on")
flags.DEFINE_integer(
    "test_queries",
    None,
    "query images of a class in evaluation (images only) [K]",
)
flags.DEFINE_enum(
    "batch_norm_statistics",
    None,
    [*STATISTICS, "both"],
    "whose mean and variance normalize a query set in evaluation: its own "
    "(transductive, as the paper), those of the support set, which lets a "
    "single image be classified, or both beside each other [transductive]",
)
flags.DEFINE_string(
    "original_checkpoint",
    None,
    "with --train=False: evaluate weights that the original code saved, by "
    "the path of their files up to .index",
)
flags.DEFINE_integer(
    "train_update_batch_size",
    -1,
    "K of the run to evaluate, if --update_batch_size asks for another",
)
flags.DEFINE_float(
    "train_update_lr",
    -1,
    "alpha of the run to evaluate, if --update_lr asks for another",
)
flags.DEFINE_string(
    "run_dir", None, "with --train=False: the run directory, by its path"
)
flags.DEFINE_bool(
    "compare",
    True,
    "after meta-training on sinusoids, train (if need be) and evaluate the "
    "pretrained and oracle networks, too",
)

# Flags of settings -> fields of the configuration, in the paper's words
FIELDS = {
    "pretrain_iterations": "pretrain_iterations",
    "metatrain_iterations": "metatrain_iterations",
    "meta_batch_size": "meta_batch_size",
    "meta_lr": "beta",
    "update_batch_size": "num_shots",
    "update_lr": "alpha",
    "num_updates": "num_steps",
    "norm": "norm",
    "stop_grad": "first_order",
    "seed": "seed",
}
IMAGE_FIELDS = {
    "num_classes": "num_ways",
    "num_filters": "num_filters",
    "conv": "conv",
    "max_pool": "max_pool",
}
# Flags of evaluation that sinusoids have no use for
IMAGE_FLAGS = ("test_best", "test_queries", "batch_norm_statistics")
ORACLE_DEFAULTS = {
    "pretrain_iterations": SinusoidConfig.metatrain_iterations,
    "metatrain_iterations": 0,
}


def config_from_flags() -> TrainingConfig:
    """The settings that the flags ask for.

    Raises:
        ConfigError: in the words of the flags.
    """
    sinusoid = FLAGS.datasource == "sinusoid"
    if sinusoid and FLAGS.run_dir is None:
        for name in (*IMAGE_FIELDS, *IMAGE_FLAGS):
            if FLAGS[name].present:
                raise ConfigError(
                    f"--{name} is for images; the sinusoid's network has none. "
                    "Leave it out, or choose another --datasource."
                )
    elif FLAGS.baseline is not None:
        raise ConfigError(
            "--baseline=oracle tells the network amplitude and phase of a "
            "sinusoid; it does not go with "
            f"--datasource={FLAGS.datasource}."
        )
    _check_run_flags()
    fields = FIELDS | ({} if sinusoid else IMAGE_FIELDS)
    if sinusoid:
        fields = fields | {"baseline": "baseline"}
    given = {name: FLAGS[name].value for name in fields if FLAGS[name].present}
    if given.get("norm") == "None":
        given["norm"] = None
    if not FLAGS.train:
        if FLAGS.train_update_batch_size != -1:
            given["update_batch_size"] = FLAGS.train_update_batch_size
        if FLAGS.train_update_lr != -1:
            given["update_lr"] = FLAGS.train_update_lr
    if FLAGS.baseline == "oracle" and not set(ORACLE_DEFAULTS) & set(given):
        given |= ORACLE_DEFAULTS
    settings = {fields[name]: value for name, value in given.items()}
    try:
        if sinusoid:
            return SinusoidConfig(**settings)
        return ImageConfig.for_images(FLAGS.datasource, **settings)
    except ConfigError as e:
        raise ConfigError(_in_flags(str(e))) from e


def _check_run_flags() -> None:
    """Refuses flags that would be ignored."""
    if FLAGS.train:
        for name in (
            "run_dir",
            "original_checkpoint",
            "train_update_batch_size",
            "train_update_lr",
        ):
            if FLAGS[name].present:
                raise ConfigError(f"--{name} goes with --train=False.")
    if FLAGS.original_checkpoint is not None and FLAGS.datasource == "sinusoid":
        raise ConfigError(
            "--original_checkpoint is of an image network; name its data set, "
            "such as --datasource=miniimagenet."
        )
    if FLAGS.run_dir is not None:
        stored = FIELDS | IMAGE_FIELDS | {"datasource": None, "baseline": None}
        for name in set(stored) - {"update_batch_size", "update_lr"}:
            if FLAGS[name].present:
                raise ConfigError(
                    f"--{name} does not go with --run_dir: the settings of "
                    "the run are stored there."
                )
    if FLAGS.test_best and FLAGS["test_iter"].present:
        raise ConfigError("--test_best and --test_iter exclude each other.")
    if FLAGS.test_iter == 0 or FLAGS.test_iter < -1:
        raise ConfigError(
            "--test_iter must be an iteration, or -1 for the newest. "
            f"Received: --test_iter={FLAGS.test_iter}"
        )


def _in_flags(message: str) -> str:
    fields = FIELDS | IMAGE_FIELDS | {n: n for n in ("baseline", "datasource")}
    for flag, field in fields.items():
        message = re.sub(rf"\b{field}\b", f"--{flag}", message)
    return message


def evaluation_settings() -> EvaluationSettings:
    """What the flags say about evaluating a run.

    Raises:
        ConfigError: in the words of the flags.
    """
    settings = {
        "split": "test" if FLAGS.test_set else "validation",
        "best": FLAGS.test_best,
        "num_tasks": _at_least_1("test_tasks"),
    }
    if FLAGS.test_iter > 0:
        settings["iteration"] = FLAGS.test_iter
    if FLAGS.test_queries is not None:
        settings["num_queries"] = _at_least_1("test_queries")
    if FLAGS.batch_norm_statistics == "both":
        settings["statistics"] = STATISTICS
    elif FLAGS.batch_norm_statistics is not None:
        settings["statistics"] = (FLAGS.batch_norm_statistics,)
    if not FLAGS.train:
        if FLAGS["update_batch_size"].present:
            settings["shots"] = (_at_least_1("update_batch_size"),)
        if FLAGS["update_lr"].present:
            if not (math.isfinite(FLAGS.update_lr) and FLAGS.update_lr >= 0):
                raise ConfigError(
                    "--update_lr must not be negative. Received: "
                    f"--update_lr={FLAGS.update_lr}"
                )
            settings["alpha"] = FLAGS.update_lr
    return EvaluationSettings(**settings)


def _at_least_1(name: str) -> int:
    value = FLAGS[name].value
    if value < 1:
        raise ConfigError(
            f"--{name} must be at least 1. Received: --{name}={value}"
        )
    return value
