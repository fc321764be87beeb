"""The settings that the flags of the experiments ask for.

Flags have the names of the original code's main.py; the settings, the paper's.
"""

import dataclasses
import math
import pathlib
import re
from typing import Any

from maml_tf.cli.flags import FLAGS, OWN_SETTINGS
from maml_tf.cli.presets import preset
from maml_tf.core.prediction import STATISTICS
from maml_tf.errors import ConfigError, ExperimentError
from maml_tf.experiments.images import ImageConfig
from maml_tf.experiments.original_checkpoint import (
    OriginalNetwork,
    read_original_checkpoint,
)
from maml_tf.experiments.registry import datasources, find_source
from maml_tf.experiments.run_directory import RunDirectory
from maml_tf.experiments.settings import EvaluationSettings
from maml_tf.experiments.source import DataSource
from maml_tf.methods.registry import METHODS, setting_names
from maml_tf.training.config import TrainingConfig

# Flags of settings -> fields of the configuration, in the paper's words
FIELDS = {
    "pretrain_iterations": "pretrain_iterations",
    "metatrain_iterations": "metatrain_iterations",
    "meta_batch_size": "meta_batch_size",
    "meta_lr": "beta",
    "meta_lr_schedule": "beta_schedule",
    "meta_lr_end": "beta_end",
    "update_batch_size": "num_shots",
    "update_lr": "alpha",
    "num_updates": "num_steps",
    "norm": "norm",
    "stop_grad": "first_order",
    "seed": "seed",
    "method": "method",
    "baseline": "baseline",
    # of images
    "num_classes": "num_ways",
    "train_queries": "num_queries",
    "train_classes": "train_ways",
    "train_shots": "train_shots",
    "num_filters": "num_filters",
    "conv": "conv",
    "max_pool": "max_pool",
    "head_init": "head_init",
    # of policies
    "horizon": "horizon",
    "outer_step": "outer_step",
    "max_kl": "max_kl",
    "curvature": "curvature",
    "curvature_stride": "curvature_stride",
}
# Flags of evaluation -> fields of `EvaluationSettings`
EVALUATION_FIELDS = {
    "test_set": "split",
    "test_best": "best",
    "test_queries": "num_queries",
    "batch_norm_statistics": "statistics",
}
# Other flags that messages name
OTHER_FLAGS = {
    "logdir",
    "output_dir",
    "resume",
    "train",
    "datasource",
    "preset",
}


def names_with_flags() -> dict[str, str]:
    """Names of settings, with their flags where the two differ."""
    return {
        field: f"{field} (--{flag})"
        for flag, field in FIELDS.items()
        if flag != field
    }


def config_from_flags() -> TrainingConfig:
    """The settings that the flags ask for, or of the network that they name.

    Raises:
        ConfigError: in the words of the flags.
        RunDirectoryError: if there is no such network.
    """
    if FLAGS.run_dir is None:
        _check_source(_source())
    _check_run_flags()
    if FLAGS.run_dir is None:
        config = _config_of_given()
    else:
        config = RunDirectory.open(pathlib.Path(FLAGS.run_dir)).config
        _check_source(find_source(config.datasource))
    if FLAGS["batch_norm_statistics"].present and config.norm != "batch_norm":
        raise ConfigError(
            "--batch_norm_statistics is for networks with batch "
            f"normalization; this one has {config.norm or 'none'}."
        )
    return config


def original_network() -> OriginalNetwork | None:
    """The network of the original code that the flags name, if they do."""
    if FLAGS.original_checkpoint is None:
        return None
    return read_original_checkpoint(FLAGS.original_checkpoint)


def _config_of_given() -> TrainingConfig:
    given = {name: FLAGS[name].value for name in FIELDS if FLAGS[name].present}
    if given.get("norm") == "None":
        given["norm"] = None
    if not FLAGS.train:
        if FLAGS.train_update_batch_size != -1:
            given["update_batch_size"] = FLAGS.train_update_batch_size
        if FLAGS.train_update_lr != -1:
            given["update_lr"] = FLAGS.train_update_lr
    settings = {FIELDS[name]: value for name, value in given.items()}
    own = {n: FLAGS[n].value for n in OWN_SETTINGS if FLAGS[n].present}
    if own:
        settings["method_settings"] = own
    _check_method(settings)
    if FLAGS.preset is not None:
        settings = _with_preset(settings)
    original = original_network()
    if original is not None:
        settings = original.settings | settings
    return _source().configure(**settings)


def _source() -> DataSource:
    """The data source that the flags name, or their preset's."""
    if FLAGS.preset is None:
        return find_source(FLAGS.datasource)
    named = preset(FLAGS.preset, ImageConfig.num_ways)["datasource"]
    if FLAGS["datasource"].present:
        named = FLAGS.datasource
    source = find_source(named)
    if not issubclass(source.config_class, ImageConfig):
        raise ConfigError(
            f"--preset={FLAGS.preset} is for images; it does not go with "
            f"--datasource={named}."
        )
    return source


def _with_preset(settings: dict[str, Any]) -> dict[str, Any]:
    """Those of the preset, in whose place those given go."""
    found = preset(FLAGS.preset, settings.get("num_ways", ImageConfig.num_ways))
    del found["datasource"]
    own = found["method_settings"] | settings.get("method_settings", {})
    return found | settings | {"method_settings": own}


def _check_source(source: DataSource) -> None:
    """Refuses flags that do not apply to the data source."""
    fields = source.fields
    for flag, field in FIELDS.items():
        if FLAGS[flag].present and field not in fields:
            raise _does_not_go(flag, source, lambda s, f=field: f in s.fields)
    for flag in OWN_SETTINGS:
        if FLAGS[flag].present and "method" not in fields:
            raise _does_not_go(flag, source, lambda s: "method" in s.fields)
    for flag, option in EVALUATION_FIELDS.items():
        if FLAGS[flag].present and option not in source.evaluation_options:
            raise _does_not_go(
                flag, source, lambda s, o=option: o in s.evaluation_options
            )


def _does_not_go(flag: str, source: DataSource, has_it) -> ConfigError:
    words = dict.fromkeys(s.words for s in datasources().values() if has_it(s))
    return ConfigError(
        f"--{flag} is for {' and '.join(words)}; it does not go with "
        f"--datasource={source.name}."
    )


def _check_method(settings: dict[str, Any]) -> None:
    """Refuses settings that the method does not have."""
    method = settings.get("method", TrainingConfig.method)
    if method not in METHODS:
        return  # the configuration says so
    own = setting_names(METHODS[method])
    for name in ("alpha", "num_steps", "first_order"):
        if name in settings and name not in own:
            raise ConfigError(
                f"{name} does not go with method={method}.", name, "method"
            )


def _check_run_flags() -> None:
    """Refuses flags that would be ignored."""
    if FLAGS.train:
        for name in (
            "run_dir",
            "original_checkpoint",
            "output_dir",
            "export_dir",
            "train_update_batch_size",
            "train_update_lr",
        ):
            if FLAGS[name].present:
                raise ConfigError(f"--{name} goes with --train=False.")
    if FLAGS.original_checkpoint is not None and not issubclass(
        _source().config_class, ImageConfig
    ):
        raise ConfigError(
            "--original_checkpoint is for image networks; name its data set, "
            "such as --datasource=miniimagenet."
        )
    if FLAGS.run_dir is not None:
        stored = {*FIELDS, *OWN_SETTINGS, "datasource", "preset"}
        stored |= {"train_update_batch_size", "train_update_lr"}
        for name in sorted(stored - {"update_batch_size", "update_lr"}):
            if FLAGS[name].present:
                raise ConfigError(
                    f"--{name} does not go with --run_dir: the settings of "
                    "the run are stored there."
                )
    if FLAGS.export_dir is not None:
        for name in ("test_set", "test_tasks", "test_queries", "output_dir"):
            if FLAGS[name].present:
                raise ConfigError(
                    f"--{name} is for evaluation; --export_dir does none. "
                    "Leave it out."
                )
        if FLAGS.batch_norm_statistics == "both":
            raise ConfigError(
                "--export_dir takes one --batch_norm_statistics: "
                f"{', '.join(s for s in STATISTICS if s != 'joint')}."
            )
    if FLAGS.test_best and FLAGS["test_iter"].present:
        raise ConfigError(
            "--test_best and --test_iter exclude each other; leave one out."
        )
    if FLAGS.test_iter == 0 or FLAGS.test_iter < -1:
        raise ConfigError(
            "--test_iter must be an iteration, or -1 for the newest. "
            f"Received: --test_iter={FLAGS.test_iter}"
        )


def in_flags(error: ExperimentError) -> str:
    """An error's message, with flags in place of the settings it names."""
    message = str(error)
    for field in error.fields:
        words = _flag_of(field, isinstance(error, ConfigError))
        message = re.sub(rf"(?<![\w-]){field}(?!\w)", words, message)
    return message


def _flag_of(field: str, of_training: bool) -> str:
    """The command line's name for a setting.

    Args:
        field: the setting.
        of_training: whether a setting of both training and evaluation means
            that of training; otherwise both are named.
    """
    training = {field: f"--{flag}" for flag, field in FIELDS.items()}
    training |= {n: f"--{n}" for n in (*OTHER_FLAGS, *OWN_SETTINGS)}
    evaluation = {
        field: f"--{flag}" for flag, field in EVALUATION_FIELDS.items()
    }
    if field in training and field in evaluation and not of_training:
        return (
            f"{training[field]} for training, {evaluation[field]} for "
            "evaluation"
        )
    return (evaluation | training).get(field, field)


def evaluation_settings() -> EvaluationSettings:
    """The settings of evaluation that the flags ask for.

    Raises:
        ConfigError: in the words of the flags.
    """
    settings = EvaluationSettings(
        split="test" if FLAGS.test_set else "validation", best=FLAGS.test_best
    )
    given: dict[str, Any] = {}
    if FLAGS.test_iter > 0:
        given["iteration"] = FLAGS.test_iter
    if FLAGS.test_tasks is not None:
        given["num_tasks"] = _at_least_1("test_tasks")
    if FLAGS.test_queries is not None:
        given["num_queries"] = _at_least_1("test_queries")
    if FLAGS.batch_norm_statistics == "both":
        given["statistics"] = ("transductive", "support")
    elif FLAGS.batch_norm_statistics is not None:
        given["statistics"] = (FLAGS.batch_norm_statistics,)
    if not FLAGS.train:
        if FLAGS["update_batch_size"].present:
            given["shots"] = (_at_least_1("update_batch_size"),)
        if FLAGS["update_lr"].present:
            if not (math.isfinite(FLAGS.update_lr) and FLAGS.update_lr >= 0):
                raise ConfigError(
                    "--update_lr must not be negative. Received: "
                    f"--update_lr={FLAGS.update_lr}"
                )
            given["alpha"] = FLAGS.update_lr
    return dataclasses.replace(settings, **given)


def _at_least_1(name: str) -> int:
    value: int = getattr(FLAGS, name)
    if value < 1:
        raise ConfigError(
            f"--{name} must be at least 1. Received: --{name}={value}"
        )
    return value
