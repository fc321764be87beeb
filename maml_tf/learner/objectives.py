"""Losses as given by a user, and whether they fit a network."""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_tf.errors import ConfigError, DataError

# Kinds of targets: integer labels; one-hot or probabilities; 0 or 1; or
# anything compared with outputs element by element.
SPARSE, CATEGORICAL, BINARY, ELEMENTWISE = (
    "sparse",
    "categorical",
    "binary",
    "elementwise",
)

_CROSS_ENTROPIES = {
    f"{kind}_crossentropy": loss
    for kind, loss in (
        ("sparse_categorical", keras.losses.SparseCategoricalCrossentropy),
        ("categorical", keras.losses.CategoricalCrossentropy),
        ("binary", keras.losses.BinaryCrossentropy),
    )
}
_KINDS = {
    keras.losses.SparseCategoricalCrossentropy: SPARSE,
    keras.losses.sparse_categorical_crossentropy: SPARSE,
    keras.losses.CategoricalCrossentropy: CATEGORICAL,
    keras.losses.categorical_crossentropy: CATEGORICAL,
    keras.losses.BinaryCrossentropy: BINARY,
    keras.losses.binary_crossentropy: BINARY,
} | dict.fromkeys(
    (
        keras.losses.MeanSquaredError,
        keras.losses.mean_squared_error,
        keras.losses.MeanAbsoluteError,
        keras.losses.mean_absolute_error,
        keras.losses.MeanAbsolutePercentageError,
        keras.losses.mean_absolute_percentage_error,
        keras.losses.MeanSquaredLogarithmicError,
        keras.losses.mean_squared_logarithmic_error,
        keras.losses.Huber,
        keras.losses.huber,
        keras.losses.LogCosh,
        keras.losses.log_cosh,
        keras.losses.Poisson,
        keras.losses.poisson,
    ),
    ELEMENTWISE,
)
_TOLERANCE = 1e-3  # of a sum of probabilities


@dataclasses.dataclass(frozen=True)
class Objective:
    """A function of (targets, outputs), and what is known about it.

    Attributes:
        name: display name.
        function: returns a scalar or one value for each example.
        given: the user's argument: a name, a Keras loss, a function.
        kind: the kind of targets (above), or None if unknown.
        from_logits: whether outputs are logits rather than probabilities;
            None if neither or unknown.
    """

    name: str
    function: Callable[[Any, Any], tf.Tensor]
    given: Any
    kind: str | None = None
    from_logits: bool | None = None

    def __call__(self, targets, outputs) -> tf.Tensor:
        if (
            self.kind in (BINARY, ELEMENTWISE)
            and len(targets.shape) == len(outputs.shape) - 1
        ):
            targets = tf.expand_dims(targets, -1)
        return self.function(targets, outputs)

    def check_targets(
        self, targets: np.ndarray, num_classes: int | None
    ) -> None:
        """Checks that targets are valid labels of that many classes.

        Args:
            targets: of one task or of several, [..., examples, ...].
            num_classes: the network's outputs per example; None if a task may
                have any number of classes.

        Raises:
            DataError: if they are not.
        """
        if self.kind == CATEGORICAL and num_classes not in (
            None,
            targets.shape[-1],
        ):
            raise DataError(
                f"One-hot targets must have {num_classes} classes. Received: "
                f"targets of {targets.shape[-1]}. Give support and query set "
                "the same classes."
            )
        if self.kind != SPARSE:
            return
        if not np.issubdtype(targets.dtype, np.integer):
            raise DataError(
                f"{self.name} takes integer labels 0, 1, ... Received: labels "
                f"of dtype {targets.dtype}. Pass y.astype('int32'), or use "
                "'categorical_crossentropy' if they are one-hot."
            )
        low, high = targets.min(), targets.max()
        if num_classes is None:
            if low < 0:
                raise DataError(
                    "Labels must be 0, 1, ... Received: labels from "
                    f"{low}. Number the classes of a task from 0."
                )
        elif low < 0 or high >= num_classes:
            raise DataError(
                f"Labels must be 0, ..., {num_classes - 1}, as there are "
                f"{num_classes} outputs. Received: labels from {low} to "
                f"{high}. Number the classes of a task from 0, or give the "
                f"network {high + 1} outputs."
            )

    def check_outputs(self, targets: np.ndarray, outputs: np.ndarray) -> None:
        """Checks that a network's outputs can be compared with targets.

        Raises:
            ConfigError: if they cannot.
        """
        if self.kind is None:
            return
        if not hasattr(outputs, "shape"):
            raise ConfigError(
                f"The network has several outputs, but {self.name} takes one. "
                "Pass a loss function of (targets, outputs) that combines them."
            )
        expected = outputs.shape[:-1] if self.kind == SPARSE else outputs.shape
        column = self.kind in (BINARY, ELEMENTWISE) and targets.shape + (
            1,
        ) == tuple(expected)
        if targets.shape != expected and not column:
            raise ConfigError(
                f"The network's outputs do not fit {self.name}: outputs have "
                f"shape {outputs.shape}, so targets must have shape "
                f"{tuple(expected)}. Received: targets of shape "
                f"{targets.shape}. {self._advice(targets, outputs)}"
            )
        if self.from_logits is not None:
            self._check_logits(outputs)

    def _advice(self, targets: np.ndarray, outputs: np.ndarray) -> str:
        if self.kind == SPARSE and targets.shape == outputs.shape:
            return "For one-hot targets use 'categorical_crossentropy'."
        if self.kind == CATEGORICAL and targets.ndim == outputs.ndim - 1:
            return "For integer labels use 'sparse_categorical_crossentropy'."
        if self.kind == CATEGORICAL:
            return (
                "Give the last layer as many units as the one-hot targets "
                "have classes."
            )
        return (
            "Give the network a last layer of the targets' shape, or reshape "
            "the targets."
        )

    def _check_logits(self, outputs: np.ndarray) -> None:
        if not np.isfinite(outputs).all():
            return
        between = (outputs >= 0).all() and (outputs <= 1 + _TOLERANCE).all()
        if self.kind == BINARY:
            if not self.from_logits and not between:
                raise self._takes_probabilities("sigmoid")
            return
        sums_to_1 = np.abs(outputs.sum(-1) - 1).max() < _TOLERANCE
        if not self.from_logits and not (between and sums_to_1):
            raise self._takes_probabilities("softmax")
        if self.from_logits and between and sums_to_1:
            raise ConfigError(
                f"The network's outputs are probabilities, but {self.name} "
                "takes logits. Remove the softmax from the network, or pass a "
                "Keras loss with from_logits=False."
            )

    def _takes_probabilities(self, activation: str) -> ConfigError:
        return ConfigError(
            f"{self.name} with from_logits=False takes probabilities, but the "
            "network's outputs are not. Set from_logits=True in the loss, or "
            f"end the network in a {activation}."
        )


def as_loss(loss: Any, model: keras.Model) -> Objective:
    """A loss given by name, as a Keras loss or as a function.

    A cross-entropy given by name takes the outputs as logits, unless the
    network ends in softmax or sigmoid.

    Raises:
        ConfigError: if it is none of these.
    """
    given, from_logits = loss, None
    if isinstance(loss, str):
        if loss in _CROSS_ENTROPIES:
            from_logits = not _ends_in_probabilities(model)
            loss = _CROSS_ENTROPIES[loss](from_logits=from_logits)
        else:
            loss = loss_by_name(loss)
    if isinstance(loss, keras.losses.Loss):
        from_logits = loss.get_config().get("from_logits")
    elif not callable(loss):
        raise ConfigError(
            "loss must be the name of a Keras loss, a Keras loss, or a "
            f"function of (targets, outputs). Received: loss={loss!r}"
        )
    kind = kind_of(loss)
    if kind in (SPARSE, CATEGORICAL, BINARY) and from_logits is None:
        from_logits = False  # Keras' functions take probabilities
    name = given if isinstance(given, str) else name_of(loss)
    return Objective(name, loss, given, kind, from_logits)


def loss_by_name(name: str) -> Any:
    """The Keras loss with this name.

    Raises:
        ConfigError: if there is none.
    """
    try:
        return keras.losses.get(name)
    except ValueError as e:
        raise ConfigError(
            f"Keras has no loss {name!r}. Use a name such as 'mse', 'mae' or "
            "'sparse_categorical_crossentropy', or a function of (targets, "
            "outputs)."
        ) from e


def _ends_in_probabilities(model: keras.Model) -> bool:
    """Whether the outputs visibly come from softmax or sigmoid."""
    outputs = getattr(model, "outputs", None)
    if not outputs:
        return False
    layer = outputs[0]._keras_history.operation
    if isinstance(layer, keras.Model):
        return _ends_in_probabilities(layer)
    return isinstance(layer, keras.layers.Softmax) or getattr(
        layer, "activation", None
    ) in (keras.activations.softmax, keras.activations.sigmoid)


def kind_of(loss: Any) -> str | None:
    """The kind of targets of a Keras loss; None if unknown."""
    function = loss if hasattr(loss, "__name__") else None
    return _KINDS.get(type(loss)) or _KINDS.get(function)


def name_of(function: Callable) -> str:
    """The display name of a loss or a function."""
    name: str = getattr(function, "__name__", "") or getattr(
        function, "name", type(function).__name__
    )
    return "a function" if name == "<lambda>" else name
