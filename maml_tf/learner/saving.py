"""Saves learners in directories, and loads them.

    learner.json    method, settings and specs of the examples
    model.keras     the network and its weights
    method.npz      what else the method learned, such as step sizes

Nothing is pickled: functions are saved by name and passed again to `load`.
"""

import dataclasses
import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.errors import ConfigError, first_lines, reason
from maml_tf.files import read_json, replace_directory, scratch_directory
from maml_tf.methods.registry import make_method
from maml_tf.objectives.objective import Objective

FORMAT = 2
_SETTINGS, _MODEL, _METHOD = "learner.json", "model.keras", "method.npz"
_STEP_SIZES = "alphas.npz"  # of format 1, which had only MAML and Meta-SGD


def save(learner: Any, path: str | os.PathLike) -> None:
    """Writes a directory atomically; see `Learner.save`."""
    path = pathlib.Path(path)
    try:
        if path.exists() and not (path / _SETTINGS).is_file():
            raise ConfigError(
                f"{path} exists and is not a saved learner. Choose another "
                "name."
            )
        with scratch_directory(path.parent) as scratch:
            new = scratch / "new"
            new.mkdir()
            _write(learner, new)
            replace_directory(new, path, scratch / "old")
    except OSError as e:
        raise ConfigError(
            f"Cannot write to {path} ({reason(e)}). Free some space, or choose "
            "another directory."
        ) from e


def _write(learner: Any, directory: pathlib.Path) -> None:
    loss, *metrics = learner.objectives
    settings = {
        "format": FORMAT,
        "loss": _loss_as_json(loss),
        "metrics": [_metric_as_json(metric) for metric in metrics],
        "method": {
            "name": learner.method.name,
            **dataclasses.asdict(learner.method),
        },
        "iterations": learner.iterations,
        "population_of": learner.population_of,
        "num_outputs": learner.checks.num_outputs,
        "spec": learner.spec and [_spec_as_json(x) for x in learner.spec],
    }
    (directory / _SETTINGS).write_text(json.dumps(settings, indent=2))
    try:
        learner.model.save(directory / _MODEL)
    except (ValueError, TypeError, NotImplementedError) as e:
        raise ConfigError(
            f"{learner.model.name} cannot be saved ({first_lines(e)}). Give "
            "its layers a get_config."
        ) from e
    if learner.method_variables:
        content = io.BytesIO()
        np.savez(content, *(v.numpy() for v in learner.method_variables))
        (directory / _METHOD).write_bytes(content.getvalue())


def load(
    cls: type,
    path: str | os.PathLike,
    loss: Any,
    metrics: Sequence[Any] | None,
    custom_objects: dict[str, Any] | None,
    safe_mode: bool,
) -> Any:
    """Reads such a directory; see `Learner.load`."""
    path = pathlib.Path(path)
    settings = _read_settings(path)
    try:
        model = keras.models.load_model(
            path / _MODEL,
            custom_objects=custom_objects,
            compile=False,
            safe_mode=safe_mode,
        )
    except (ValueError, TypeError, OSError, NotImplementedError) as e:
        if safe_mode and "safe_mode" in str(e):
            raise ConfigError(
                f"The model in {path} holds Python code, such as a lambda, "
                "that loading would run. If you trust its source, call "
                "Learner.load(path, safe_mode=False)."
            ) from e
        raise ConfigError(
            f"The model in {path} cannot be loaded ({first_lines(e)}). If it "
            "has layers or functions of your own, pass them as "
            "custom_objects={'Name': Name}."
        ) from e
    if metrics is None:
        metrics = [_from_json(m, path, "metrics") for m in settings["metrics"]]
    learner = cls(
        model,
        _from_json(settings["loss"], path, "loss") if loss is None else loss,
        method=make_method(settings["method"].pop("name"), settings["method"]),
        metrics=metrics,
    )
    learner.checks.num_outputs = settings["num_outputs"]
    if settings["spec"] is not None:
        learner.checks.spec = Batch(*map(_spec_from_json, settings["spec"]))
    learner.trainer.iterations = settings["iterations"]
    learner.population_of = settings.get("population_of")
    if learner.method_variables:
        name = _STEP_SIZES if settings["format"] == 1 else _METHOD
        with np.load(path / name, allow_pickle=False) as saved:
            for variable, key in zip(
                learner.method_variables, saved.files, strict=True
            ):
                variable.assign(saved[key])
    return learner


def _read_settings(path: pathlib.Path) -> dict[str, Any]:
    try:
        settings = read_json(path / _SETTINGS)
        found = settings["format"]
    except OSError as e:
        raise ConfigError(
            f"{path} is not a saved learner: {_SETTINGS} cannot be read "
            f"({e.strerror})."
        ) from e
    except (ValueError, KeyError) as e:
        raise ConfigError(
            f"{path / _SETTINGS} is damaged; save the learner again."
        ) from e
    if found == 1:
        learned = settings["learn_alpha"]
        settings["method"] = {
            "name": "meta_sgd" if learned else "maml",
            **{
                name: settings[name]
                for name in ("alpha", "num_steps", "adapts", "first_order")
            },
        }
    elif found != FORMAT:
        raise ConfigError(
            f"{path} was saved in format {found}; this version reads format "
            f"{FORMAT}."
        )
    return settings


def _loss_as_json(loss: Objective) -> dict[str, Any]:
    if isinstance(loss.given, str):
        return {"name": loss.given}
    if type(loss.given) in vars(keras.losses).values():
        saved = keras.saving.serialize_keras_object(loss.given)
        again = keras.saving.deserialize_keras_object(saved)
        # Keras leaves some settings out, such as Huber's delta.
        if _settings_of(again) == _settings_of(loss.given):
            return {"keras": saved}
    return {"function": loss.name}


def _settings_of(loss: keras.losses.Loss) -> dict[str, Any]:
    return getattr(loss, "_fn_kwargs", {})


def _metric_as_json(metric: Objective) -> dict[str, Any]:
    if isinstance(metric.given, str):
        return {"name": metric.given}
    return {"function": metric.name}


def _from_json(saved: dict[str, Any], path: pathlib.Path, what: str) -> Any:
    if "name" in saved:
        return saved["name"]
    if "keras" in saved:
        return keras.saving.deserialize_keras_object(saved["keras"])
    raise ConfigError(
        f"The learner in {path} has {saved['function']} among its {what}, "
        f"which is not saved. Pass it again: Learner.load(path, {what}=...)."
    )


def _spec_as_json(spec: Any) -> Any:
    if isinstance(spec, dict):
        return {"dict": {k: _spec_as_json(x) for k, x in spec.items()}}
    if isinstance(spec, list | tuple):
        kind = "list" if isinstance(spec, list) else "tuple"
        return {kind: [_spec_as_json(x) for x in spec]}
    return {"shape": spec.shape.as_list(), "dtype": spec.dtype.name}


def _spec_from_json(saved: Any) -> Any:
    if "dict" in saved:
        return {k: _spec_from_json(x) for k, x in saved["dict"].items()}
    if "list" in saved:
        return [_spec_from_json(x) for x in saved["list"]]
    if "tuple" in saved:
        return tuple(_spec_from_json(x) for x in saved["tuple"])
    return tf.TensorSpec(saved["shape"], saved["dtype"])
