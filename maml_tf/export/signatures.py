"""The functions of an exported model, with flat tensors by name."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from maml_tf.core.losses import POPULATION, Batch, references
from maml_tf.core.maml import StepSize
from maml_tf.core.network import Network, weight_names
from maml_tf.core.task_loops import mapped
from maml_tf.export.checks import checked
from maml_tf.methods.method import Method, State

Tensors = dict[str, tf.Tensor]
Specs = dict[str, tf.TensorSpec]


@dataclasses.dataclass(frozen=True, eq=False)
class Served:
    """A model to be served; see `saved_model.export_method`.

    Attributes:
        variables: variables of `params`: theta, then the method's.
        alpha: the step size; None takes the method's.
        inputs, targets: their `tf.TensorSpec`s.
        classifies: whether outputs are scores of classes.
        num_ways: number of classes, if the model fixes it.
        from_logits: whether scores are logits.
    """

    network: Network
    method: Method
    variables: Sequence[tf.Variable]
    alpha: StepSize | None
    statistics: str
    inputs: Any
    targets: tf.TensorSpec
    classifies: bool
    num_ways: int | None
    from_logits: bool

    def signatures(self) -> dict[str, Callable]:
        """Concrete functions by name."""
        support = _named("support_inputs", self.inputs) | {
            "support_targets": self.targets
        }
        query = _named("query_inputs", self.inputs)
        updates: Specs = {}
        if self.method.test_steps:
            updates = {"num_updates": tf.TensorSpec([], tf.int32)}
        asked = query
        if self._takes_support:
            asked = query | _named("support_inputs", self.inputs)
        several = {
            name: tf.TensorSpec([None, *spec.shape], spec.dtype)
            for name, spec in (support | query).items()
        }
        adapt = self._trace(self._state, support | updates)
        state = {
            name: tf.TensorSpec(tensor.shape, tensor.dtype)
            for name, tensor in adapt.structured_outputs.items()
        }
        signatures = {
            "adapt_and_predict": self._trace(
                self._both, support | query | updates
            ),
            "adapt_and_predict_batch": self._trace(
                self._batch, several | updates, of_several=True
            ),
            "adapt": adapt,
            "predict_adapted": self._trace(self._predict, state | asked),
        }
        if self._adapts_weights:
            signatures["predict"] = self._trace(self._predict, asked)
        return signatures

    @property
    def _adapts_weights(self) -> bool:
        return self.method.fixed_outputs and bool(self.method.test_steps)

    @property
    def _takes_support(self) -> bool:
        """Whether predictions need the support set's inputs."""
        return self.statistics in ("support", "appended")

    @property
    def _params(self) -> list[tf.Tensor]:
        return [tf.convert_to_tensor(v) for v in self.variables]

    def _trace(
        self,
        function: Callable[[Tensors], Tensors],
        specs: Specs,
        of_several: bool = False,
    ):
        shapes = {name: spec.shape for name, spec in specs.items()}
        num_ways = self.num_ways if self.classifies else None
        any_ways = self.classifies and num_ways is None

        def signature(**tensors: tf.Tensor) -> Tensors:
            axis = 1 if of_several else 0
            return function(checked(tensors, shapes, num_ways, axis, any_ways))

        return tf.function(signature, autograph=False).get_concrete_function(
            **{
                name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
                for name, spec in specs.items()
            }
        )

    def _both(self, tensors: Tensors) -> Tensors:
        state = self._adapt(self._support(tensors), tensors.get("num_updates"))
        return self._outputs(state, tensors)

    def _batch(self, tensors: Tensors) -> Tensors:
        shared = {
            name: tensors.pop(name)
            for name in list(tensors)
            if name == "num_updates"
        }
        return mapped(lambda task: self._both(task | shared), tensors)

    def _state(self, tensors: Tensors) -> Tensors:
        state = self._adapt(self._support(tensors), tensors.get("num_updates"))
        return self.method.pack(self.network, state)

    def _predict(self, tensors: Tensors) -> Tensors:
        params = self._params
        theta, _ = self.network.split(params)
        names = weight_names(self.network.model)
        given = dict(zip(names, theta, strict=True)) | tensors
        state = self.method.unpack(self.network, params, given)
        return self._outputs(state, tensors)

    @tf.function(autograph=False)
    def _adapt(self, support: Batch, num_updates: tf.Tensor | None) -> State:
        params = self._params
        alpha = self.alpha
        if alpha is None:
            alpha = self.method.step_size(self.network, params)
        reference = POPULATION if self.statistics == "population" else None
        state = self.method.begin(self.network, params, support, reference)
        if num_updates is None:
            return state

        def update(step, state):
            state, _ = self.method.update(self.network, state, support, alpha)
            return step + 1, state

        return tf.while_loop(
            lambda step, _: step < num_updates,
            update,
            (0, state),
            parallel_iterations=1,
        )[1]

    def _outputs(self, state: State, tensors: Tensors) -> Tensors:
        support = None
        if self._takes_support:
            support = self._inputs("support_inputs", tensors)
        query = self._inputs("query_inputs", tensors)
        return self._answer(state, query, support)

    @tf.function(autograph=False)
    def _answer(self, state: State, query: Any, support: Any) -> Tensors:
        reference = references(self.statistics, support, query).query
        outputs = self.method.predict(
            self.network, self._params, state, query, reference
        )
        if not self.classifies:
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


def _named(prefix: str, specs: Any) -> Specs:
    """Specs by flat name: `prefix`, and the place in a structure, if any."""
    return {
        "_".join([prefix, *map(str, place)]): spec
        for place, spec in keras.tree.flatten_with_path(specs)
    }
