"""The functions of an exported model, as flat tensors by name."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from maml_tf.core.losses import Batch, predict
from maml_tf.core.maml import LossFn, Params, StepSize, inner_update
from maml_tf.core.task_loops import mapped
from maml_tf.export.checks import checked
from maml_tf.layers.normalization import all_layers
from maml_tf.layers.normalized_convolution import NormalizedConv2D

Tensors = dict[str, tf.Tensor]
Specs = dict[str, tf.TensorSpec]


@dataclasses.dataclass(frozen=True, eq=False)
class Served:
    """A model to be adapted and asked; see `export.export_adaptation`.

    Attributes:
        theta: the model's trainable variables.
        inputs, targets: their `tf.TensorSpec`s.
        num_ways: N, if outputs are scores of classes.
        from_logits: whether these are logits.
    """

    model: keras.Model
    loss: LossFn
    alpha: StepSize
    theta: Sequence[tf.Variable]
    adapts: Sequence[bool]
    statistics: str
    inputs: Any
    targets: tf.TensorSpec
    num_ways: int | None
    from_logits: bool

    def signatures(self) -> dict[str, Callable]:
        """Concrete functions by name."""
        support = _named("support_inputs", self.inputs) | {
            "support_targets": self.targets
        }
        query = _named("query_inputs", self.inputs)
        updates = {"num_updates": tf.TensorSpec([], tf.int32)}
        if self.statistics == "support":
            asked = query | _named("support_inputs", self.inputs)
        else:
            asked = query
        weights = {
            name: tf.TensorSpec(self.theta[i].shape, self.theta[i].dtype)
            for name, i in self._adapted().items()
        }
        several = {
            name: tf.TensorSpec([None, *spec.shape], spec.dtype)
            for name, spec in (support | query).items()
        }
        return {
            name: self._trace(function, specs, "batch" in name)
            for name, function, specs in (
                ("adapt_and_predict", self._both, support | query | updates),
                ("adapt_and_predict_batch", self._batch, several | updates),
                ("adapt", self._weights, support | updates),
                ("predict_adapted", self._predict, weights | asked),
                ("predict", self._predict, asked),
            )
        }

    def _trace(
        self,
        function: Callable[[Tensors], Tensors],
        specs: Specs,
        of_several: bool,
    ):
        shapes = {name: spec.shape for name, spec in specs.items()}

        def signature(**tensors: tf.Tensor) -> Tensors:
            axis = 1 if of_several else 0
            return function(checked(tensors, shapes, self.num_ways, axis))

        return tf.function(signature, autograph=False).get_concrete_function(
            **{
                name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
                for name, spec in specs.items()
            }
        )

    def _both(self, tensors: Tensors) -> Tensors:
        theta = self._adapt(self._support(tensors), tensors["num_updates"])
        return self._outputs(theta, tensors)

    def _batch(self, tensors: Tensors) -> Tensors:
        num_updates = tensors.pop("num_updates")
        return mapped(
            lambda task: self._both(task | {"num_updates": num_updates}),
            tensors,
        )

    def _weights(self, tensors: Tensors) -> Tensors:
        theta = self._adapt(self._support(tensors), tensors["num_updates"])
        return {name: theta[i] for name, i in self._adapted().items()}

    def _predict(self, tensors: Tensors) -> Tensors:
        theta = [tf.convert_to_tensor(v) for v in self.theta]
        for name, i in self._adapted().items():
            theta[i] = tensors.get(name, theta[i])
        return self._outputs(theta, tensors)

    @tf.function(autograph=False)
    def _adapt(self, support: Batch, num_updates: tf.Tensor) -> Params:
        def update(step, theta):
            theta, _ = inner_update(
                self.loss, theta, support, self.alpha, adapts=self.adapts
            )
            return step + 1, theta

        theta = [tf.convert_to_tensor(v) for v in self.theta]
        return tf.while_loop(
            lambda step, _: step < num_updates,
            update,
            (0, theta),
            parallel_iterations=1,
        )[1]

    def _outputs(self, theta: Params, tensors: Tensors) -> Tensors:
        reference = None
        if self.statistics == "support":
            reference = self._inputs("support_inputs", tensors)
        query = self._inputs("query_inputs", tensors)
        return self._answer(list(theta), query, reference)

    @tf.function(autograph=False)
    def _answer(self, theta: Params, query: Any, reference: Any) -> Tensors:
        outputs = predict(self.model, theta, query, reference=reference)
        if self.num_ways is None:
            return {"predictions": outputs}
        if not self.from_logits:
            return {"probabilities": outputs}
        return {"logits": outputs, "probabilities": tf.nn.softmax(outputs)}

    def _support(self, tensors: Tensors) -> Batch:
        inputs = self._inputs("support_inputs", tensors)
        return Batch(inputs, tensors["support_targets"])

    def _inputs(self, prefix: str, tensors: Tensors) -> Any:
        names = _named(prefix, self.inputs)
        return keras.tree.pack_sequence_as(
            self.inputs, [tensors[name] for name in names]
        )

    def _adapted(self) -> dict[str, int]:
        """The weights that adapt: name -> place in theta."""
        names = weight_names(self.model)
        return {names[i]: i for i, moves in enumerate(self.adapts) if moves}


def weight_names(model: keras.Model) -> list[str]:
    """Names of the trainable variables as tensors of the signatures.

    A variable's Keras path without the names of the model and of each
    `NormalizedConv2D`, with an underscore for anything but letters and digits:
    `sequential/conv2d_1/kernel` is `conv2d_1_kernel`. A number at the end
    distinguishes names that would be equal.
    """
    names: list[str] = []
    pairs = {x.name for x in all_layers(model) if type(x) is NormalizedConv2D}
    for variable in model.trainable_variables:
        path = variable.path.removeprefix(f"{model.name}/")
        path = "/".join(x for x in path.split("/") if x not in pairs)
        name = base = re.sub(r"\W", "_", path, flags=re.ASCII)
        number = 1
        while name in names:
            name, number = f"{base}_{number}", number + 1
        names.append(name)
    return names


def _named(prefix: str, specs: Any) -> Specs:
    """Flat names: `prefix` itself, or followed by the place in a structure."""
    return {
        "_".join([prefix, *map(str, place)]): spec
        for place, spec in keras.tree.flatten_with_path(specs)
    }
