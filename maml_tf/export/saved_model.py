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
| `serving_default`         | support sets and query inputs  | predictions     |
|                           | of several tasks               |                 |

The adapted state is the result of adaptation: weights, by their names, or
prototypes. Methods without updates have no `num_updates`, and only those that
adapt weights have `predict`, which does not adapt.

The number of examples in a set may change from call to call. If a query set is
normalized by the support set's statistics, all signatures that predict take
support inputs, too.

With an `ImagePreparation`, each signature of one task has another whose name
ends in `_image_bytes`: its images are the contents of JPEG and PNG files.

`export.json` beside the model says what is in it.
"""

import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from maml_tf.core.losses import squared_error
from maml_tf.core.maml import LossFn, Params, StepSize
from maml_tf.core.network import Network
from maml_tf.core.prediction import STATISTICS
from maml_tf.datasets.image_preparation import ImagePreparation
from maml_tf.errors import (
    ConfigError,
    ExportError,
    check_whole_number,
    reason,
)
from maml_tf.export.about import (
    check_images,
    checked_names,
    description,
    write_description,
)
from maml_tf.export.signatures import Answers, Served
from maml_tf.files import WILDCARDS, has_wildcards, scratch_directory
from maml_tf.layers.normalization import has_batch_norm
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
        loss: the loss that updates descend, of (theta, `batch.Batch`); in
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
    targets: Any = None,
    num_updates: int | None = None,
    images: ImagePreparation | None = None,
    class_names: Sequence[str] | None = None,
    version: int | None = None,
) -> None:
    """Writes a method's adaptation, with its weights, as a SavedModel.

    A crash leaves nothing at `path`.

    Args:
        path: the directory to create; an empty one may exist.
        network: the model and the loss that updates descend; in classification
            it has one output tensor, and targets are class numbers, int32
            [examples].
        method: bound to the network.
        params: everything that was meta-learned; theta is taken from the
            model's variables.
        alpha: the step size, or a list with one for each trainable variable;
            None takes the method's.
        kind: one of `KINDS`.
        statistics: whose statistics batch normalization uses on a query set,
            one of `prediction.STATISTICS`.
        from_logits: whether a classifier's outputs are logits, rather than
            probabilities.
        inputs: a batch of the model's inputs, or their `tf.TensorSpec`s; None
            takes them from the model.
        targets: the same for targets in regression; None takes those of the
            outputs.
        num_updates: updates of `serving_default`; None takes the method's.
        images: makes the model's inputs from image files, inside the graph.
        class_names: the classes' names, which answers then hold.
        version: writes to a directory of this number in `path`, as TensorFlow
            Serving wants it.

    Raises:
        ValueError, ConfigError: if an argument is invalid.
        ExportError: if the directory exists and is not empty or cannot be
            written, or the statistics are joint.
    """
    for name, value, known in (
        ("kind", kind, KINDS),
        ("statistics", statistics, STATISTICS),
    ):
        if value not in known:
            raise ValueError(
                f"{name} must be one of {known}. Received: {name}={value!r}"
            )
    check_exportable(statistics)
    path = directory_of(path, version)
    model = network.model
    method = method.bind(network)
    if num_updates is None:
        num_updates = method.test_steps
    check_whole_number("num_updates", num_updates, least=0)
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
    classifies = kind == "classification"
    num_ways = None
    if classifies:
        if not isinstance(output, tf.TensorSpec):
            count = len(keras.tree.flatten(output))
            raise ConfigError(
                "A classifier must have one output tensor to be exported. "
                f"Received: {model.name} has {count}"
            )
        targets = tf.TensorSpec([None], tf.int32)
        num_ways = output.shape[-1] if method.fixed_outputs else None
    else:
        targets = keras.tree.map_structure(
            any_number, output if targets is None else targets
        )
    if images is not None:
        check_images(images, input_specs)
    if class_names is not None:
        class_names = checked_names(class_names, num_ways)
    if not has_batch_norm(model):
        statistics = "transductive"  # nothing depends on the support set
    served = Served(
        network,
        method,
        [*module.theta, *module.method],
        alpha,
        statistics,
        input_specs,
        targets,
        Answers(classifies, from_logits, class_names),
        num_ways,
        num_updates,
        images,
    )
    write_saved_model(
        path,
        module,
        served.signatures(),
        description(kind, images, class_names)
        | {"method": method.name, "num_updates": num_updates},
    )


def check_exportable(statistics: str) -> None:
    """Checks that an export can normalize by such statistics.

    Raises:
        ExportError: if it cannot.
    """
    if statistics == "joint":
        raise ExportError(
            "An export adapts before it knows the query set, so it cannot take "
            "joint statistics. Choose others, such as statistics=support.",
            "statistics",
        )


def directory_of(path: str | os.PathLike, version: int | None) -> pathlib.Path:
    """Where an export goes.

    Raises:
        ConfigError: if the version is not a number.
        ExportError: if the directory exists and is not empty.
    """
    path = pathlib.Path(path)
    if version is not None:
        check_whole_number("version", version, least=1)
        path = path / str(version)
    check_free(path)
    return path


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
    return keras.tree.map_structure(any_number, inputs)


def _output_spec(network: Network, inputs: Any) -> Any:
    theta = network.theta
    traced = tf.function(
        lambda x: network.outputs(theta, x), autograph=False
    ).get_concrete_function(inputs)
    return keras.tree.map_structure(any_number, traced.structured_outputs)


def any_number(x: Any) -> tf.TensorSpec:
    """The specification of any number of such examples."""
    return tf.TensorSpec([None, *x.shape[1:]], x.dtype)


def write_saved_model(
    path: pathlib.Path,
    module: tf.Module,
    signatures: dict[str, Callable],
    about: dict[str, Any],
) -> None:
    """Writes a SavedModel; a crash leaves nothing at `path`.

    Args:
        path: the directory to create.
        module: holds the variables.
        signatures: concrete functions by name.
        about: what `export.json` says, besides format and version.

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
            write_description(written, about)
            os.rename(written, path)
    except (OSError, tf.errors.OpError) as e:
        raise _unwritable(path, e) from e


def _unwritable(path: pathlib.Path, error: Exception) -> ExportError:
    return ExportError(
        f"Cannot write to {path} ({reason(error)}). Free some space, or choose "
        "another directory to export to."
    )
