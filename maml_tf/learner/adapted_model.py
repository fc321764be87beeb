"""A network adapted to one task."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.maml import Params
from maml_tf.core.network import Network
from maml_tf.core.prediction import STATISTICS, references
from maml_tf.datasets.image_preparation import ImagePreparation
from maml_tf.errors import ConfigError, reason
from maml_tf.export.adapted import export_adapted
from maml_tf.files import scratch_directory
from maml_tf.layers.normalization import has_batch_norm
from maml_tf.learner.examples import Examples
from maml_tf.learner.exporting import classifies
from maml_tf.learner.model_checks import (
    check_normalization,
    plain_copy,
)
from maml_tf.methods.method import Method, State
from maml_tf.objectives.metrics import names_of
from maml_tf.objectives.objective import (
    BINARY,
    CATEGORICAL,
    SPARSE,
    Objective,
)
from maml_tf.tasks import batches


class AdaptedModel:
    """The result of `Learner.adapt`, which does not change.

    Attributes:
        state: result of adaptation: adapted weights, prototypes, ...
        losses: the loss on the support set before each update, floats.
        classes: the support set's classes in the order of the outputs, if its
            labels were text; else None.
    """

    def __init__(
        self,
        network: Network,
        method: Method,
        params: Params,
        state: State,
        support: Batch,
        losses: Sequence[float],
        objectives: Sequence[Objective],
        examples: Examples,
        classes: tuple[str, ...] | None,
        population: bool,
    ):
        """
        Args:
            network: the model with its loss; the model is not changed.
            method: bound to the network.
            params: everything that was meta-learned.
            state: see the attribute.
            support: the support set it was made from.
            losses: see the attribute.
            objectives: the loss and the metrics.
            examples: makes arrays of what users give.
            classes: see the attribute.
            population: whether the population's statistics were measured.
        """
        self.state = state
        self.losses = losses
        self.classes = classes
        self._network = network
        self._method = method
        self._params = params
        self._support = support
        self._objectives = objectives
        self._examples = examples
        self._population = population
        self._spec = batches.spec_of(support)

    @property
    def theta(self) -> Params:
        """The weights theta', one tensor for each trainable variable.

        Raises:
            ConfigError: if the method does not adapt weights.
        """
        weights = self._method.weights(self.state)
        if weights is None:
            raise ConfigError(
                f"{self._method.name} does not adapt weights; the result of "
                "adaptation is in `state`."
            )
        return weights

    def predict(self, x: Any, statistics: str = "support") -> np.ndarray:
        """The network's outputs.

        Args:
            x: inputs [examples, ...], or a structure of them, as the model
                takes; for a single example `x[None]`.
            statistics: those that batch normalization uses: "support", the
                support set's mean and variance, so that predictions do not
                depend on each other; "transductive", those of `x` itself, as
                in the paper; "appended", those of the support set with one of
                `x`, for each of them; "joint", those of both together; or
                "population", those that `Learner.measure_population` found.

        Raises:
            DataError: if `x` is not like the examples of the support set.
            ConfigError: if `statistics` is none of them.
        """
        outputs = self._outputs(x, statistics)
        return tf.nest.map_structure(lambda y: y.numpy(), outputs)

    def classify(self, x: Any, statistics: str = "support") -> np.ndarray:
        """The most likely class of each example.

        Args:
            x, statistics: as for `predict`.

        Returns:
            Class numbers [examples], or the names that the support set's labels
            had.

        Raises:
            DataError, ConfigError: as for `predict`, and if the loss is none of
                classification.
        """
        outputs = self.predict(x, statistics)
        loss = self._objectives[0]
        if loss.kind == BINARY:
            threshold = 0.0 if loss.from_logits else 0.5
            numbers = (outputs > threshold).astype(np.int64)
            if outputs.ndim > 1 and outputs.shape[-1] == 1:
                numbers = numbers[..., 0]
        elif loss.kind in (SPARSE, CATEGORICAL):
            count = len(self.classes) if self.classes else outputs.shape[-1]
            numbers = outputs[..., :count].argmax(axis=-1)
        else:
            raise ConfigError(
                f"{loss.name} is no loss of classification. Use predict."
            )
        return np.array(self.classes)[numbers] if self.classes else numbers

    def evaluate(
        self, x: Any, y: Any, statistics: str = "support"
    ) -> dict[str, float]:
        """The loss and the metrics on further examples of the task.

        Args:
            x, statistics: as for `predict`.
            y: the targets.

        Raises:
            DataError, ConfigError: as for `predict`, and if targets do not fit.
        """
        batch = Batch(
            self._examples.inputs(x, self._spec.inputs),
            self._examples.targets(y, self._spec.targets, self.classes),
        )
        batches.check_sizes(batch)
        batches.check_spec(
            batches.spec_of(batch.targets), self._spec.targets, "targets"
        )
        outputs = self._outputs(batch.inputs, statistics)
        loss = self._objectives[0]
        if loss.kind is not None:
            loss.check_targets(batch.targets, outputs.shape[-1])
        return {
            name: float(tf.reduce_mean(objective(batch.targets, outputs)))
            for name, objective in zip(
                names_of(self._objectives), self._objectives, strict=True
            )
        }

    def to_keras(self) -> keras.Model:
        """A copy of the user's model with the adapted weights.

        Its layers are Keras' own, or the user's. Batch normalization has the
        support set's mean and variance as moving statistics, so that
        `model.predict` returns the same as `predict` here.

        Raises:
            ConfigError: if the model cannot be copied, or the method does not
                adapt weights.
        """
        return plain_copy(self._network.model, self.theta, self._support.inputs)

    def save(self, path: str | os.PathLike) -> None:
        """Saves `to_keras()` as a .keras file, for `keras.models.load_model`.

        Raises:
            ConfigError: if the path does not end in .keras or cannot be
                written, or the model cannot be copied.
        """
        path = pathlib.Path(path)
        if path.suffix != ".keras":
            raise ConfigError(
                f"An adapted model is saved as a .keras file. Received: {path}"
            )
        copy = self.to_keras()
        try:
            with scratch_directory(path.parent) as scratch:
                copy.save(scratch / "model.keras")
                os.replace(scratch / "model.keras", path)
        except OSError as e:
            raise ConfigError(
                f"Cannot write to {path} ({reason(e)}). Free some space, or "
                "choose another file."
            ) from e

    def export(
        self,
        path: str | os.PathLike,
        *,
        statistics: str = "support",
        images: ImagePreparation | None = None,
        class_names: Sequence[str] | None = None,
        version: int | None = None,
    ) -> None:
        """Writes a SavedModel that predicts, for servers (docs/serving.md).

        It needs neither maml_tf nor Keras.

        Args:
            path: the directory to create; an empty one may exist.
            statistics: as for `predict`.
            images: adds a signature that takes JPEG and PNG files; `prepare`
                of the tasks that `tasks_from_folder` gives.
            class_names: the names of classes 0, 1, ..., which answers then
                hold; None: the labels of the support set, if they are text.
            version: writes to a directory of this number in `path`, as
                TensorFlow Serving wants it.

        Raises:
            ConfigError: if an argument is invalid.
            ExportError: if the directory exists and is not empty.
        """
        check_statistics(self._network.model, statistics, self._population)
        if not has_batch_norm(self._network.model):
            statistics = "transductive"  # nothing depends on the support set
        example = tf.nest.map_structure(lambda x: x[:1], self._support.inputs)
        outputs = self.predict(example, statistics)
        classified = classifies(self._objectives[0], self._spec.targets)
        num_ways = outputs.shape[-1] if classified else None
        known = self.classes
        if class_names is None and known and len(known) == num_ways:
            class_names = known
        export_adapted(
            path,
            self._network,
            self._method,
            self._params,
            self._state_by(
                references(statistics, self._support.inputs, example).support
            ),
            self._support.inputs,
            self._spec.inputs,
            statistics=statistics,
            classifies=classified,
            num_ways=num_ways,
            from_logits=self._objectives[0].from_logits is not False,
            images=images,
            class_names=class_names,
            version=version,
        )

    def _outputs(self, x: Any, statistics: str) -> Any:
        """What `predict` returns, as tensors with their masks."""
        check_statistics(self._network.model, statistics, self._population)
        inputs = self._examples.inputs(x, self._spec.inputs)
        batches.check_spec(batches.spec_of(inputs), self._spec.inputs, "inputs")
        normalizing = references(statistics, self._support.inputs, inputs)
        return self._method.predict(
            self._network,
            self._params,
            self._state_by(normalizing.support),
            inputs,
            normalizing.query,
        )

    def _state_by(self, reference: Any) -> State:
        """The state, where `reference` normalizes the support set."""
        if reference is None or self.losses:
            return self.state
        # What embeds the support set, normalizes it likewise.
        return self._method.begin(
            self._network, self._params, self._support, reference
        )

    def __repr__(self) -> str:
        count = len(tf.nest.flatten(self._support)[0])
        return (
            f"<AdaptedModel of {self._network.model.name}: "
            f"{len(self.losses)} updates on {count} examples>"
        )


def check_statistics(
    model: keras.Model, statistics: str, population: bool
) -> None:
    """Checks that batch normalization can use such statistics.

    Args:
        model: the network.
        statistics: one of `prediction.STATISTICS`.
        population: whether the population's were measured.

    Raises:
        ConfigError: if it cannot.
    """
    if statistics not in STATISTICS:
        raise ConfigError(
            f"statistics must be one of {STATISTICS}. Received: "
            f"statistics={statistics!r}"
        )
    if statistics == "support":
        check_normalization(model)
    if statistics == "population" and has_batch_norm(model) and not population:
        raise ConfigError(
            "The population's statistics were not measured with these weights. "
            "Call learner.measure_population(tasks) with training tasks first, "
            "and adapt then; or use other statistics."
        )
