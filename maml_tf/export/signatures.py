"""The functions of an exported model, with flat tensors by name."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import StepSize
from maml_tf.core.network import Network, weight_names
from maml_tf.core.prediction import POPULATION, references
from maml_tf.core.task_loops import mapped
from maml_tf.datasets.image_preparation import ImagePreparation
from maml_tf.export import image_bytes
from maml_tf.export.checks import checked
from maml_tf.methods.method import Method, State

Tensors = dict[str, tf.Tensor]
Specs = dict[str, tf.TensorSpec]


DEFAULT = "serving_default"
IMAGE_BYTES = "image_bytes"  # ends the names of signatures that take files


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a model's outputs are called, and what else follows from them.

    Attributes:
        classifies: whether outputs are scores of classes.
        from_logits: whether scores are logits.
        class_names: the classes' names in the order of the scores, if known.
    """

    classifies: bool
    from_logits: bool = True
    class_names: Sequence[str] | None = None

    def __call__(self, outputs: Any) -> Tensors:
        """Named tensors: predictions, or scores and names of classes."""
        if not self.classifies:
            tensors = keras.tree.flatten(outputs)
            names = flat_names("predictions", outputs)
            return dict(zip(names, tensors, strict=True))
        if self.from_logits:
            found = {"logits": outputs, "probabilities": tf.nn.softmax(outputs)}
        else:
            found = {"probabilities": outputs}
        if self.class_names is not None:
            best = tf.argmax(found["probabilities"], axis=-1)
            found["classes"] = tf.gather(tf.constant(self.class_names), best)
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Served:
    """A model to be served; see `saved_model.export_method`.

    Attributes:
        variables: variables of `params`: theta, then the method's.
        alpha: the step size; None takes the method's.
        inputs, targets: their `tf.TensorSpec`s.
        answers: names the outputs.
        num_ways: number of classes, if the model fixes it.
        num_updates: updates of the default signature, which takes no number.
        images: makes the inputs from files, if they are images.
    """

    network: Network
    method: Method
    variables: Sequence[tf.Variable]
    alpha: StepSize | None
    statistics: str
    inputs: Any
    targets: Any
    answers: Answers
    num_ways: int | None
    num_updates: int
    images: ImagePreparation | None = None

    def signatures(self) -> dict[str, Callable]:
        """Concrete functions by name."""
        support = named("support_inputs", self.inputs) | named(
            "support_targets", self.targets
        )
        query = named("query_inputs", self.inputs)
        updates: Specs = {}
        if self._has_updates:
            updates = {"num_updates": tf.TensorSpec([], tf.int32)}
        asked = query
        if self._takes_support:
            asked = query | named("support_inputs", self.inputs)
        several = {
            name: tf.TensorSpec([None, *spec.shape], spec.dtype)
            for name, spec in (support | query).items()
        }
        adapt = self._trace(self._state, support | updates)
        state = {
            name: tf.TensorSpec(tensor.shape, tensor.dtype)
            for name, tensor in adapt.structured_outputs.items()
        }
        of_one_task: dict[str, tuple[Callable[[Tensors], Tensors], Specs]] = {
            "adapt_and_predict": (self._both, support | query | updates),
            "adapt": (self._state, support | updates),
            "predict_adapted": (self._predict, state | asked),
        }
        if self._has_updates and self.method.fixed_outputs:
            of_one_task["predict"] = (self._predict, asked)
        signatures = {
            DEFAULT: self._trace(self._default, several, of_several=True),
            "adapt_and_predict_batch": self._trace(
                self._batch, several | updates, of_several=True
            ),
        }
        for name, (function, specs) in of_one_task.items():
            signatures[name] = self._trace(function, specs)
            if self.images is not None:
                signatures[f"{name}_{IMAGE_BYTES}"] = self._trace_of_bytes(
                    function, specs, self.images
                )
        return signatures

    @property
    def _has_updates(self) -> bool:
        return bool(self.method.test_steps)

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
    ) -> Any:
        def signature(tensors: Tensors) -> Tensors:
            return function(self._checked(tensors, specs, int(of_several)))

        return traced(signature, specs)

    def _trace_of_bytes(
        self,
        function: Callable[[Tensors], Tensors],
        specs: Specs,
        images: ImagePreparation,
    ) -> Callable:
        """The same with contents of files in place of the inputs."""
        files = {
            name: name.replace("inputs", IMAGE_BYTES)
            for name in ("support_inputs", "query_inputs")
            if name in specs
        }
        strings = tf.TensorSpec([None], tf.string)
        others = {n: spec for n, spec in specs.items() if n not in files}

        def signature(tensors: Tensors) -> Tensors:
            prepared = {
                name: image_bytes.prepared(
                    tensors[file], images, specs[name].dtype
                )
                for name, file in files.items()
            }
            given = prepared | {name: tensors[name] for name in others}
            return function(self._checked(given, specs))

        return traced(
            signature, others | {file: strings for file in files.values()}
        )

    def _checked(
        self, tensors: Tensors, specs: Specs, axis: int = 0
    ) -> Tensors:
        shapes = {name: spec.shape for name, spec in specs.items()}
        classifies, num_ways = self.answers.classifies, self.num_ways
        return checked(
            tensors,
            shapes,
            num_ways if classifies else None,
            axis,
            classifies and num_ways is None,
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

    def _default(self, tensors: Tensors) -> Tensors:
        if not self._has_updates:
            return self._batch(tensors)
        return self._batch(
            tensors | {"num_updates": tf.constant(self.num_updates)}
        )

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
        return self.answers(outputs)

    def _support(self, tensors: Tensors) -> Batch:
        return Batch(
            self._inputs("support_inputs", tensors),
            packed("support_targets", self.targets, tensors),
        )

    def _inputs(self, prefix: str, tensors: Tensors) -> Any:
        return packed(prefix, self.inputs, tensors)


def traced(function: Callable[[Tensors], Tensors], specs: Specs) -> Any:
    """A concrete function of named tensors."""

    def signature(**tensors: tf.Tensor) -> Tensors:
        return function(tensors)

    return tf.function(signature, autograph=False).get_concrete_function(
        **{
            name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
            for name, spec in specs.items()
        }
    )


def named(prefix: str, specs: Any) -> Specs:
    """Specs by flat name."""
    names = flat_names(prefix, specs)
    return dict(zip(names, keras.tree.flatten(specs), strict=True))


def packed(prefix: str, specs: Any, tensors: Tensors) -> Any:
    """The structure of the tensors that `named` names."""
    names = flat_names(prefix, specs)
    return keras.tree.pack_sequence_as(specs, [tensors[n] for n in names])


def flat_names(prefix: str, structure: Any) -> list[str]:
    """Names of a structure's parts: `prefix`, and the place in it, if any.

    An underscore stands for anything but letters and digits, and a number at
    the end tells apart names that would be equal.
    """
    names: list[str] = []
    for place, _ in keras.tree.flatten_with_path(structure):
        whole = "_".join([prefix, *map(str, place)])
        name = base = re.sub(r"\W", "_", whole, flags=re.ASCII)
        number = 1
        while name in names:
            name, number = f"{base}_{number}", number + 1
        names.append(name)
    return names
