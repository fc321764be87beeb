"""The flags of the experiments: names of the original code's main.py."""

import typing
from collections.abc import Callable
from typing import Any

from absl import flags

from maml_tf.core.prediction import STATISTICS
from maml_tf.methods.registry import METHODS, own_settings

FLAGS = flags.FLAGS

# What the experiment is
flags.DEFINE_string(
    "datasource",
    "sinusoid",
    "the tasks: sinusoid; glyphs, omniglot, miniimagenet, or the name of a "
    "data set made by maml-tf data image_folder; point, cheetah_vel, "
    "cheetah_dir, ant_vel or ant_dir",
)
flags.DEFINE_integer(
    "num_classes", None, "N-way: classes of a task (images only) [5]"
)
flags.DEFINE_string(
    "preset",
    None,
    "settings that belong together, from which other flags may differ: "
    "omniglot_20way, better than the paper's for that; or maml_plus_plus",
)
flags.DEFINE_string(
    "method",
    None,
    "the method of meta-training: maml, meta_sgd, imaml, context (vector), "
    "averages (of parameters), reptile, protonet "
    "(prototypical networks), matching, siamese, nearest (neighbor) or "
    "finetuning [maml]",
)
flags.DEFINE_string(
    "baseline",
    None,
    "oracle: give the network the amplitude and phase of its sinusoid, or the "
    "policy its goal; it is trained on all tasks jointly unless "
    "--metatrain_iterations is given",
)

# Training
flags.DEFINE_integer(
    "pretrain_iterations",
    None,
    "iterations of ordinary training on all tasks jointly, before "
    "meta-training [0; oracle: sinusoid 70000, point 100, cheetah 1000, "
    "ant 2000]",
)
flags.DEFINE_integer(
    "metatrain_iterations",
    None,
    "meta-training iterations [sinusoid 70000; oracle 0; omniglot and "
    "miniimagenet 60000; glyphs 3000; point 100, cheetah and ant 500]",
)
flags.DEFINE_integer(
    "meta_batch_size",
    None,
    "tasks of a meta-update [sinusoid 25; omniglot 32, 20-way 16; "
    "miniimagenet 4; glyphs 8; point 20; cheetah and ant 40; policies trained "
    "jointly 100]",
)
flags.DEFINE_float(
    "meta_lr",
    None,
    "outer step size beta, of Adam; for policies with --outer_step=vpg [0.001]",
)
flags.DEFINE_string(
    "meta_lr_schedule",
    None,
    "cosine: lower beta to --meta_lr_end in the course of meta-training "
    "[constant]",
)
flags.DEFINE_float(
    "meta_lr_end", None, "last value of beta, with a schedule [0.00001]"
)
flags.DEFINE_integer(
    "update_batch_size",
    None,
    "K: examples of a task's support set (of each class), or rollouts of a "
    "goal [sinusoid: training 10, evaluation 5, 10 and 20; images: 1, "
    "characters are evaluated with 5, too; policies: training 20, cheetah_vel "
    "10, ant_dir 40; evaluation 20, point and ant_dir 40]",
)
flags.DEFINE_float(
    "update_lr",
    None,
    "inner step size alpha [sinusoid and miniimagenet 0.01; omniglot and "
    "glyphs 0.4; omniglot 20-way 0.1; point 0.5, cheetah and ant 0.1]",
)
flags.DEFINE_integer(
    "num_updates",
    None,
    "inner updates in training [1; omniglot 20-way and miniimagenet 5]; "
    "evaluation takes 10, of policies 3 (point 4)",
)
flags.DEFINE_integer(
    "seed", None, "seed of initial weights and training tasks [0]"
)

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
    "max-pool instead of stride (images only) [False; miniimagenet True]",
)
flags.DEFINE_float(
    "head_init",
    None,
    "standard deviation of the last layer's initial weights (images only) [as "
    "the paper: 1; with max-pooling Glorot's]",
)
flags.DEFINE_bool(
    "stop_grad", None, "first-order MAML: leave out second derivatives [False]"
)

# Policies
flags.DEFINE_integer(
    "horizon", None, "steps of the longest episode [point 100; others 200]"
)
flags.DEFINE_string(
    "outer_step",
    None,
    "trpo, or vpg: the gradient of the outer objective by Adam [trpo]",
)
flags.DEFINE_float(
    "max_kl",
    None,
    "bound of the mean KL divergence of a TRPO step [0.01; cheetah_dir 0.02]",
)
flags.DEFINE_string(
    "curvature",
    None,
    "products with the Hessian of the KL divergence: exact, or "
    "finite_differences as in the original [exact]",
)
flags.DEFINE_integer(
    "curvature_stride",
    None,
    "take every n-th time step for the curvature: faster, less exact [1]",
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
    "resume an existing run; False moves it aside and starts over",
)
flags.DEFINE_bool("train", True, "False: only evaluate")
flags.DEFINE_integer(
    "test_iter", -1, "iteration to evaluate; -1 for the newest"
)
flags.DEFINE_bool(
    "test_best",
    False,
    "evaluate the weights that did best in validation (images), or the policy "
    "with the best return in training",
)
flags.DEFINE_bool(
    "test_set",
    True,
    "evaluate on test tasks; False for validation tasks (training tasks are in "
    "neither)",
)
flags.DEFINE_integer(
    "test_tasks", None, "tasks to evaluate on [600; policies 40 goals]"
)
flags.DEFINE_integer(
    "train_queries",
    None,
    "query images per class in training (images only) [K; mini-ImageNet and "
    "your own data sets 15]",
)
flags.DEFINE_integer(
    "train_classes",
    None,
    "classes of a task in training (images only), for methods whose networks "
    "embed images [--num_classes; protonet 60 or fewer]",
)
flags.DEFINE_integer(
    "train_shots",
    None,
    "support images of a class in training (images only), if others than in "
    "evaluation [--update_batch_size]",
)
flags.DEFINE_integer(
    "test_queries",
    None,
    "query images per class in evaluation (images only) [K]",
)
flags.DEFINE_enum(
    "batch_norm_statistics",
    None,
    [*STATISTICS, "both"],
    "whose mean and variance normalize a query set in evaluation: its own "
    "(transductive, as in the paper), those of the support set, which allow a "
    "single image to be classified, or of it with one query image (appended), "
    "those of both sets together (joint), those of training images "
    "(population), or both the first and the second [transductive; protonet "
    "and others that compare embeddings population, finetuning support]",
)
flags.DEFINE_string(
    "original_checkpoint",
    None,
    "with --train=False: evaluate weights that the original code saved; the "
    "path of their files up to .index",
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
    "run_dir", None, "with --train=False: path of the run directory"
)
flags.DEFINE_string(
    "output_dir",
    None,
    "with --train=False: directory of results and figures [that of the run]",
)
flags.DEFINE_string(
    "export_dir",
    None,
    "with --train=False: do not evaluate, but write the network and its "
    "adaptation to this directory as a SavedModel (docs/serving.md)",
)
flags.DEFINE_bool(
    "compare",
    True,
    "after meta-training on sinusoids or of policies, also train (if needed) "
    "and evaluate the pretrained and oracle ones",
)


_DEFINE: dict[type, Callable[..., Any]] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


def _define_own_settings() -> dict[str, list[str]]:
    """Defines a flag for each setting that only some methods have.

    Returns:
        The methods that have it, by the name of the setting and its flag.
    """
    methods: dict[str, list[str]] = {}
    for name, method in METHODS.items():
        for own in own_settings(method):
            methods.setdefault(own, []).append(name)
    for own, names in methods.items():
        field = own_settings(METHODS[names[0]])[own]
        kinds = typing.get_args(field.type) or (field.type,)
        (kind,) = (k for k in kinds if k is not type(None))
        _DEFINE[kind](
            own,
            None,
            f"{', '.join(names)}: {field.metadata['about']} [{field.default}]",
        )
    return methods


# Settings of methods, each a flag of its name, and the methods that have it
OWN_SETTINGS = _define_own_settings()

# Headings in the help, and the first flag below each
GROUPS = {
    "Experiment": "datasource",
    "Training": "pretrain_iterations",
    "Network": "norm",
    "Policies": "horizon",
    "Runs and evaluation": "log",
    "Settings of methods": next(iter(OWN_SETTINGS)),
}


def _register_groups() -> None:
    """Registers flags under their headings, as if those were modules."""
    headings = {first: heading for heading, first in GROUPS.items()}
    heading = ""
    for flag in list(FLAGS.flags_by_module_dict()[__name__]):
        heading = headings.get(flag.name, heading)
        FLAGS.register_flag_by_module(heading, flag)


_register_groups()
