"""A model adapted to one task, as a SavedModel for servers.

| signature             | from                         | to                    |
|-----------------------|------------------------------|-----------------------|
| `serving_default`     | inputs                       | predictions           |
| `predict`             | the same                     | the same              |
| `predict_image_bytes` | contents of JPEG, PNG files  | the same              |

The last is there if the export has an `ImagePreparation`.
"""

import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from maml_tf.core.maml import Params
from maml_tf.core.network import Network
from maml_tf.core.prediction import references
from maml_tf.datasets.image_preparation import ImagePreparation
from maml_tf.export import image_bytes
from maml_tf.export.about import check_images, checked_names, description
from maml_tf.export.checks import checked
from maml_tf.export.saved_model import (
    check_exportable,
    directory_of,
    write_saved_model,
)
from maml_tf.export.signatures import (
    DEFAULT,
    IMAGE_BYTES,
    Answers,
    Tensors,
    named,
    packed,
    traced,
)
from maml_tf.methods.method import Method, State


def export_adapted(
    path: str | os.PathLike,
    network: Network,
    method: Method,
    params: Params,
    state: State,
    support: Any,
    inputs: Any,
    *,
    statistics: str,
    classifies: bool,
    num_ways: int | None,
    from_logits: bool,
    images: ImagePreparation | None = None,
    class_names: Sequence[str] | None = None,
    version: int | None = None,
) -> None:
    """Writes an adapted model; a crash leaves nothing at `path`.

    Args:
        path, from_logits, images, class_names, version: as for
            `saved_model.export_method`.
        network: the model.
        method: bound to the network.
        params: everything that was meta-learned.
        state: the result of adaptation.
        support: inputs of the support set.
        inputs: `tf.TensorSpec`s of the model's inputs.
        statistics: as for `saved_model.export_method`.
        classifies: whether outputs are scores of classes.
        num_ways: how many classes.

    Raises:
        ConfigError, ExportError, OSError: as for `saved_model.export_method`.
    """
    check_exportable(statistics)
    path = directory_of(path, version)
    if images is not None:
        check_images(images, inputs)
    if class_names is not None:
        class_names = checked_names(
            class_names, num_ways if classifies else None
        )
    values: dict[str, Any] = {"params": params, "state": state}
    if statistics == "support":
        values["support"] = support
    kept = tf.nest.map_structure(
        lambda x: tf.Variable(x, trainable=False), values
    )
    answers = Answers(classifies, from_logits, class_names)
    specs = named("inputs", inputs)
    shapes = {name: spec.shape for name, spec in specs.items()}

    def predict(tensors: Tensors) -> Tensors:
        tensors = checked(tensors, shapes, sets=("inputs",))
        now = tf.nest.map_structure(tf.convert_to_tensor, kept)
        query = packed("inputs", inputs, tensors)
        outputs = method.predict(
            network,
            now["params"],
            now["state"],
            query,
            references(statistics, now.get("support"), query).query,
        )
        return answers(outputs)

    function = traced(predict, specs)
    signatures = {DEFAULT: function, "predict": function}
    if images is not None:
        ((name, spec),) = specs.items()
        signatures[f"predict_{IMAGE_BYTES}"] = traced(
            lambda tensors: predict(
                {
                    name: image_bytes.prepared(
                        tensors[IMAGE_BYTES], images, spec.dtype
                    )
                }
            ),
            {IMAGE_BYTES: tf.TensorSpec([None], tf.string)},
        )
    module = tf.Module()
    module.used = list(function.variables)
    module.fixed = [v.value for v in network.model.non_trainable_variables]
    write_saved_model(
        path,
        module,
        signatures,
        description(
            "classification" if classifies else "regression",
            images,
            class_names,
        )
        | {"method": method.name, "adapted": True},
    )
