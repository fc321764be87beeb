"""Adaptation as a SavedModel that needs neither maml_tf nor Keras.

The signatures, with tensors by name (docs/serving.md):

| signature                 | from                           | to              |
|---------------------------|--------------------------------|-----------------|
| `adapt_and_predict`       | support set, query inputs,     | predictions     |
|                           | number of updates              |                 |
| `adapt_and_predict_batch` | the same for several tasks     | the same        |
| `adapt`                   | support set, number of updates | adapted state   |
| `predict_adapted`         | adapted state, query inputs    | predictions     |
| `predict`                 | query inputs                   | predictions     |

The adapted state is the result of adaptation: weights, by their names, or
prototypes. Methods without updates have no `num_updates`, and only those that
adapt weights have `predict`, which does not adapt.

The number of examples in a set may change from call to call. If a query set is
normalized by the support set's statistics, all signatures that predict take
support inputs, too.
"""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from maml_tf.core.losses import STATISTICS, squared_error
from maml_tf.core.maml import LossFn, Params, StepSize
from maml_tf.core.network import Network
from maml_tf.errors import ExportError, reason
from maml_tf.export.signatures import Served
from maml_tf.files import WILDCARDS, has_wildcards, scratch_directory
from maml_tf.methods.maml import MAML
from maml_tf.methods.method import Method

KINDS = ("regression", "classification")


def export_adaptation(
    path: str | os.PathLike,
    model: keras.Model,
    loss: LossFn,
    alpha: StepSize,
    *,
    adapts: Sequence[bool] | None = None,
    **options: Any,
) -> None:
    """Writes a model that adapts by gradient descent: `export_method`.

    Args:
        path: the directory to create; an empty one may exist.
        model: a built model with one output tensor; in classification
            [examples, N].
        loss: the loss that updates descend, of (theta, `losses.Batch`); in
            classification its targets are class numbers, int32 [examples].
        alpha: the step size; a list has one for each trainable variable.
        adapts: as for `maml.inner_update`.
        options: as for `export_method`.

    Raises:
        ValueError, ExportError: as for `export_method`.
    """
    network = Network(model, squared_error, loss)
    moving = [True] * len(network.theta) if adapts is None else list(adapts)
    export_method(
        path,
        network,
        MAML(adapts=moving),
        network.theta,
        alpha=alpha,
        **options,
    )


def export_method(
    path: str | os.PathLike,
    network: Network,
    method: Method,
    params: Params,
    *,
    alpha: StepSize | None = None,
    kind: str = "regression",
    statistics: str = "transductive",
    from_logits: bool = True,
    inputs: Any = None,
    targets: tf.TensorSpec | None = None,
) -> None:
    """Writes a method's adaptation, with its weights, as a SavedModel.

    A crash leaves nothing at `path`.

    Args:
        path: the directory to create; an empty one may exist.
        network: the model, with one output tensor, and the loss that updates
            descend; in classification its targets are class numbers, int32
            [examples].
        method: bound to the network.
        params: everything that was meta-learned; theta is taken from the
            model's variables.
        alpha: the step size, or a list with one for each trainable variable;
            None takes the method's.
        kind: one of `KINDS`.
        statistics: whose statistics batch normalization uses on a query set,
            one of `losses.STATISTICS`.
        from_logits: whether a classifier's outputs are logits, rather than
            probabilities.
        inputs: a batch of the model's inputs, or their `tf.TensorSpec`s; None
            takes them from the model.
        targets: the same for targets in regression; None takes those of the
            outputs.

    Raises:
        ValueError: if an argument is invalid.
        ExportError: if `path` exists and is not an empty directory or cannot
            be written, or the statistics are joint.
    """
    for name, value, known in (
        ("kind", kind, KINDS),
        ("statistics", statistics, STATISTICS),
    ):
        if value not in known:
            raise ValueError(
                f"{name} must be one of {known}. Received: {name}={value!r}"
            )
    if statistics == "joint":
        raise ExportError(
            "An export adapts before it knows the query set, so it cannot take "
            "joint statistics. Choose others, such as statistics=support.",
            "statistics",
        )
    path = pathlib.Path(path)
    check_free(path)
    model = network.model
    method = method.bind(network)
    module = tf.Module()
    module.theta = [v.value for v in model.trainable_variables]
    module.fixed = [v.value for v in model.non_trainable_variables]
    module.method = [
        tf.Variable(value, trainable=False)
        for value in network.split(params)[1]
    ]
    if isinstance(alpha, Sequence):
        module.alpha = [
            tf.Variable(tf.convert_to_tensor(size), trainable=False)
            for size in alpha
        ]
        alpha = list(module.alpha)
    elif alpha is not None:
        alpha = float(alpha)
    input_specs = _input_specs(model, inputs)
    output = _output_spec(network, input_specs)
    if kind == "classification":
        targets = tf.TensorSpec([None], tf.int32)
    else:
        targets = output if targets is None else _any_number(targets)
    served = Served(
        network,
        method,
        [*module.theta, *module.method],
        alpha,
        statistics,
        input_specs,
        targets,
        kind == "classification",
        output.shape[-1] if method.fixed_outputs else None,
        from_logits,
    )
    write_saved_model(path, module, served.signatures())


def check_free(path: pathlib.Path) -> None:
    """Checks that an export can be written.

    Raises:
        ExportError: if `path` exists and is not an empty directory, or
            TensorFlow could not load it from there.
    """
    if has_wildcards(path):
        raise ExportError(
            "TensorFlow cannot load a SavedModel from a path with "
            f"{' or '.join(WILDCARDS)}. Choose another directory than {path}."
        )
    try:
        free = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    except (OSError, ValueError) as e:
        raise _unwritable(path, e) from e
    if not free:
        raise ExportError(
            f"{path} already exists. Remove it, or choose another directory to "
            "export to."
        )


def _input_specs(model: keras.Model, inputs: Any) -> Any:
    """Specifications of the model's inputs, for any number of examples."""
    if inputs is None and isinstance(model, keras.Sequential):
        (inputs,) = model.inputs
    elif inputs is None:
        inputs = getattr(model, "input", None)  # subclasses have none
    if inputs is None:
        raise ValueError(
            "The model does not know the shapes of its inputs. Pass inputs, a "
            f"batch of them. Received: model={model.name}, inputs=None"
        )
    return keras.tree.map_structure(_any_number, inputs)


def _output_spec(network: Network, inputs: Any) -> tf.TensorSpec:
    theta = network.theta
    traced = tf.function(
        lambda x: network.outputs(theta, x), autograph=False
    ).get_concrete_function(inputs)
    output = traced.structured_outputs
    if not tf.is_tensor(output):
        raise ValueError(
            "Only a model with one output tensor can be exported. Received: "
            f"a model that returns {output}"
        )
    return _any_number(output)


def _any_number(x: Any) -> tf.TensorSpec:
    return tf.TensorSpec([None, *x.shape[1:]], x.dtype)


def write_saved_model(
    path: pathlib.Path, module: tf.Module, signatures: dict[str, Callable]
) -> None:
    """Writes a SavedModel; a crash leaves nothing at `path`.

    Raises:
        ExportError: if it cannot be written.
    """
    try:
        with scratch_directory(path.parent) as scratch:
            written = scratch / path.name
            tf.saved_model.save(
                module,
                str(written),
                signatures,
                # Only of use to differentiate a loaded model.
                tf.saved_model.SaveOptions(experimental_custom_gradients=False),
            )
            os.rename(written, path)
    except (OSError, tf.errors.OpError) as e:
        raise _unwritable(path, e) from e


def _unwritable(path: pathlib.Path, error: Exception) -> ExportError:
    return ExportError(
        f"Cannot write to {path} ({reason(error)}). Free some space, or choose "
        "another directory to export to."
    )
