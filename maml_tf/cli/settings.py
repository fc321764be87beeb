"""The settings that the flags of run_experiment.py ask for.

Flags have the names of the original code's main.py; the settings, the paper's.
"""

import math
import pathlib
import re
from typing import Any

from maml_tf.cli.flags import FLAGS
from maml_tf.core.losses import STATISTICS
from maml_tf.errors import ConfigError
from maml_tf.experiments.configs import (
    ITERATIONS,
    ImageConfig,
    SinusoidConfig,
    TrainingConfig,
)
from maml_tf.experiments.evaluate import EvaluationSettings
from maml_tf.experiments.original_checkpoint import read_original_checkpoint
from maml_tf.experiments.rl_config import RLConfig, joint_iterations
from maml_tf.experiments.run_directory import RunDirectory, config_class

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
    "train_queries": "num_queries",
    "num_filters": "num_filters",
    "conv": "conv",
    "max_pool": "max_pool",
}
RL_FIELDS = {
    name: name
    for name in (
        "horizon",
        "outer_step",
        "max_kl",
        "curvature",
        "curvature_stride",
    )
}
ALL_FIELDS = FIELDS | IMAGE_FIELDS | RL_FIELDS | {"baseline": "baseline"}

# Flags that some kinds of experiment alone have: which, and those in words
SPECIAL_FLAGS = (
    (
        (*IMAGE_FIELDS, "test_queries", "batch_norm_statistics"),
        (ImageConfig,),
        "images",
    ),
    (tuple(RL_FIELDS), (RLConfig,), "policies"),
    (("norm", "test_set"), (SinusoidConfig, ImageConfig), "networks"),
    (("test_best",), (ImageConfig, RLConfig), "images and policies"),
    (("baseline",), (SinusoidConfig, RLConfig), "sinusoids and policies"),
)


def config_from_flags() -> TrainingConfig:
    """The settings that the flags ask for, or of the network that they name.

    Raises:
        ConfigError: in the words of the flags.
        RunDirectoryError: if there is no such network.
    """
    if FLAGS.run_dir is None:
        _check_kind(config_class(FLAGS.datasource), FLAGS.datasource)
    _check_run_flags()
    if FLAGS.run_dir is None:
        config = _config_of_given()
    else:
        config = RunDirectory.open(pathlib.Path(FLAGS.run_dir)).config
        _check_kind(type(config), config.datasource)
    if FLAGS["batch_norm_statistics"].present and config.norm != "batch_norm":
        raise ConfigError(
            "--batch_norm_statistics is for networks with batch "
            f"normalization; this one has {config.norm or 'none'}."
        )
    return config


def _config_of_given() -> TrainingConfig:
    given = {
        name: FLAGS[name].value for name in ALL_FIELDS if FLAGS[name].present
    }
    if given.get("norm") == "None":
        given["norm"] = None
    if not FLAGS.train:
        if FLAGS.train_update_batch_size != -1:
            given["update_batch_size"] = FLAGS.train_update_batch_size
        if FLAGS.train_update_lr != -1:
            given["update_lr"] = FLAGS.train_update_lr
    settings = {ALL_FIELDS[name]: value for name, value in given.items()}
    try:
        return _build(config_class(FLAGS.datasource), settings)
    except ConfigError as e:
        raise ConfigError(_in_flags(str(e))) from e


def _build(kind: type, settings: dict[str, Any]) -> TrainingConfig:
    if FLAGS.original_checkpoint is not None:
        original = read_original_checkpoint(FLAGS.original_checkpoint)
        return original.config(FLAGS.datasource, **settings)
    if kind is ImageConfig:
        return ImageConfig.for_images(FLAGS.datasource, **settings)
    if settings.get("baseline") == "oracle" and not set(ITERATIONS) & set(
        settings
    ):
        settings |= {
            "pretrain_iterations": SinusoidConfig.metatrain_iterations
            if kind is SinusoidConfig
            else joint_iterations(RLConfig.for_environment(FLAGS.datasource)),
            "metatrain_iterations": 0,
        }
    if kind is SinusoidConfig:
        return SinusoidConfig(**settings)
    config = RLConfig.for_environment(FLAGS.datasource, **settings)
    if "beta" in settings and config.outer_step == "trpo":
        raise ConfigError(
            "beta is the step size of --outer_step=vpg; the steps of trpo are "
            "bounded by --max_kl."
        )
    return config


def _check_kind(kind: type, datasource: str) -> None:
    """Refuses flags that the kind of experiment does not have."""
    for names, kinds, words in SPECIAL_FLAGS:
        for name in names:
            if FLAGS[name].present and kind not in kinds:
                raise ConfigError(
                    f"--{name} is for {words}; it does not go with "
                    f"--datasource={datasource}."
                )


def _check_run_flags() -> None:
    """Refuses flags that would be ignored."""
    if FLAGS.train:
        for name in (
            "run_dir",
            "original_checkpoint",
            "export_dir",
            "train_update_batch_size",
            "train_update_lr",
        ):
            if FLAGS[name].present:
                raise ConfigError(f"--{name} goes with --train=False.")
    if (
        FLAGS.original_checkpoint is not None
        and config_class(FLAGS.datasource) is not ImageConfig
    ):
        raise ConfigError(
            "--original_checkpoint is of an image network; name its data set, "
            "such as --datasource=miniimagenet."
        )
    if FLAGS.run_dir is not None:
        stored = {*ALL_FIELDS, "datasource"}
        stored |= {"train_update_batch_size", "train_update_lr"}
        for name in sorted(stored - {"update_batch_size", "update_lr"}):
            if FLAGS[name].present:
                raise ConfigError(
                    f"--{name} does not go with --run_dir: the settings of "
                    "the run are stored there."
                )
    if FLAGS.export_dir is not None:
        for name in ("test_set", "test_tasks", "test_queries"):
            if FLAGS[name].present:
                raise ConfigError(
                    f"--{name} is for evaluation; --export_dir does none. "
                    "Leave it out."
                )
        if FLAGS.batch_norm_statistics == "both":
            raise ConfigError(
                "--export_dir takes one --batch_norm_statistics: "
                f"{' or '.join(STATISTICS)}."
            )
    if FLAGS.test_best and FLAGS["test_iter"].present:
        raise ConfigError("--test_best and --test_iter exclude each other.")
    if FLAGS.test_iter == 0 or FLAGS.test_iter < -1:
        raise ConfigError(
            "--test_iter must be an iteration, or -1 for the newest. "
            f"Received: --test_iter={FLAGS.test_iter}"
        )


def _in_flags(message: str) -> str:
    for flag, field in {**ALL_FIELDS, "datasource": "datasource"}.items():
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
    }
    if FLAGS.test_iter > 0:
        settings["iteration"] = FLAGS.test_iter
    if FLAGS.test_tasks is not None:
        settings["num_tasks"] = _at_least_1("test_tasks")
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
    value: int = getattr(FLAGS, name)
    if value < 1:
        raise ConfigError(
            f"--{name} must be at least 1. Received: --{name}={value}"
        )
    return value
