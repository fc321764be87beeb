"""Losses as given by a user, and whether they fit a network."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.comparison import compared, weighted_mean
from maml_tf.errors import ConfigError, DataError
from maml_tf.methods.method import Method
from maml_tf.objectives.keras_losses import (
    BINARY,
    CATEGORICAL,
    ELEMENTWISE,
    GROUPS,
    POSITIVE,
    PROBABILITIES,
    SEQUENCE,
    SIGNS,
    SPARSE,
    TOLD,
    TOLERANCE,
    UNIT_VECTORS,
    WHOLE_NUMBERS,
    Takes,
    check_values,
    loss_object,
    takes,
)

# Kinds of targets that have the shape of the outputs, whose last axis may be
# left out if it is 1.
_LIKE_OUTPUTS = (BINARY, SIGNS, ELEMENTWISE)
# Where outputs of a network without fixed outputs come from.
DISTANCES = "distances"


@dataclasses.dataclass(frozen=True)
class Objective:
    """A function of (targets, outputs), and what is known about it.

    Attributes:
        name: display name.
        function: returns a scalar or one value for each example.
        given: the user's argument: a name, a Keras loss, a function.
        kind: the kind of targets (keras_losses.py), or None if unknown.
        from_logits: whether outputs are logits rather than probabilities;
            None if neither or unknown.
        outputs_by: the activation that outputs come from
            (`keras_losses.activation_of`), or None if unknown.
        weighs: whether the function takes weights of examples as a third
            argument, and returns a scalar.
    """

    name: str
    function: Callable[..., tf.Tensor]
    given: Any
    kind: str | None = None
    from_logits: bool | None = None
    outputs_by: str | None = None
    weighs: bool = False

    @property
    def ignored(self) -> int | None:
        """The label of what has no class, if there is one."""
        ignored: int | None = getattr(self.function, "ignore_class", None)
        return ignored

    @property
    def takes(self) -> Takes | None:
        """What a Keras loss takes; None for any other."""
        return takes(self.function)

    def __call__(self, targets, outputs) -> tf.Tensor:
        return compared(self.function, self._like(outputs, targets), outputs)

    def weighted_mean(self, targets, outputs, weights: tf.Tensor) -> tf.Tensor:
        """The mean over the examples, as `losses.weighted_mean`."""
        targets = self._like(outputs, targets)
        if not self.weighs:
            return weighted_mean(self.function, targets, outputs, weights)
        function = functools.partial(self.function, weights=weights)
        return compared(function, targets, outputs)

    def _like(self, outputs: Any, targets: Any) -> Any:
        """Targets with the last axis of the outputs that they leave out."""
        if (
            self.kind in _LIKE_OUTPUTS
            and len(targets.shape) == len(outputs.shape) - 1
        ):
            return tf.expand_dims(targets, -1)
        return targets

    def check_targets(
        self, targets: np.ndarray, num_classes: int | None, leading: int = 1
    ) -> None:
        """Checks that the loss can use the values of targets.

        Args:
            targets: of one task or of several, [..., examples, ...].
            num_classes: the network's outputs per example; None if a task may
                have any number of classes.
            leading: number of axes up to and including that of the examples.

        Raises:
            DataError: if they do not.
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
        if self.takes is not None:
            of_pixels = targets.ndim - leading > 1
            check_values(self.function, self.name, targets, of_pixels)
        if self.kind not in WHOLE_NUMBERS:
            return
        if not np.issubdtype(targets.dtype, np.integer):
            raise DataError(
                f"{self.name} takes integer labels 0, 1, ... Received: labels "
                f"of dtype {targets.dtype}. Pass y.astype('int32'), or use "
                "'categorical_crossentropy' if they are one-hot."
            )
        if self.kind == GROUPS:
            _check_groups(targets.reshape(-1, targets.shape[leading - 1]))
        else:
            self._check_range(targets, num_classes)

    def _check_range(
        self, targets: np.ndarray, num_classes: int | None
    ) -> None:
        """Checks that class numbers are 0 to N - 1, or the ignored label."""
        if self.ignored is not None:
            targets = targets[targets != self.ignored]
            if not targets.size:
                return
        low, high = int(targets.min()), int(targets.max())
        if num_classes is None:
            if low < 0:
                raise DataError(
                    "Labels must be 0, 1, ... Received: labels from "
                    f"{low}. Number the classes of a task from 0."
                )
        elif low < 0 or high >= num_classes:
            advice = "Number the classes of a task from 0."
            if low >= 0:
                advice = (
                    "Number the classes of a task from 0, or let there be "
                    f"{high + 1} outputs."
                )
            if high == 255 and np.isin(targets, (0, 255)).all():
                advice = "Masks of 0 and 255 become 0 and 1 by y // 255."
            elif targets.ndim > 1 and (low == -1 or high == 255):
                void = -1 if low == -1 else 255
                advice = (
                    f"If {void} marks what has no class, use keras.losses."
                    "SparseCategoricalCrossentropy("
                    f"ignore_class={void}, from_logits=True)."
                )
            raise DataError(
                f"Labels must be 0, ..., {num_classes - 1}, as there are "
                f"{num_classes} outputs. Received: labels from {low} to "
                f"{high}. {advice}"
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
        if self.kind == SEQUENCE:
            _check_sequences(targets, outputs)
            return
        expected = outputs.shape
        if self.kind == SPARSE:
            expected = outputs.shape[:-1]
        elif self.kind == GROUPS:
            expected = outputs.shape[:1]
        column = self.kind in _LIKE_OUTPUTS and targets.shape + (1,) == tuple(
            expected
        )
        if targets.shape != expected and not column:
            raise ConfigError(
                f"The network's outputs do not fit {self.name}: outputs have "
                f"shape {outputs.shape}, so targets must have shape "
                f"{tuple(expected)}. Received: targets of shape "
                f"{targets.shape}. {self._advice(targets, outputs)}"
            )
        axis = getattr(self.function, "axis", -1)
        if self.kind in (SPARSE, CATEGORICAL) and axis not in (
            None,
            -1,
            outputs.ndim - 1,
        ):
            raise ConfigError(
                f"{self.name} with axis={axis} has classes along another axis "
                "than the last. Let the network end in a layer such as "
                "keras.layers.Permute, and take axis=-1."
            )
        if (
            self.kind in (SPARSE, CATEGORICAL)
            and outputs.shape[-1] == 1
            and self.outputs_by != DISTANCES
        ):
            raise ConfigError(
                f"{self.name} tells classes apart, but the network has one "
                "output. Use 'binary_crossentropy', or an output for each "
                "class."
            )
        if outputs.shape[-1] == 1 and isinstance(
            self.function, keras.losses.CosineSimilarity
        ):
            raise ConfigError(
                f"{self.name} compares directions, but the network has one "
                "output. Use another loss, such as 'mse'."
            )
        if self.takes is not None and np.isfinite(outputs).all():
            self._check_kind_of_outputs(outputs, self.takes.outputs)

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

    def _check_kind_of_outputs(self, outputs: np.ndarray, kind: str) -> None:
        binary = self.kind == BINARY
        if kind == TOLD and self.from_logits:
            certain = self.outputs_by == "softmax" or (
                self.outputs_by == "sigmoid" and binary
            )
            seen = self.outputs_by not in ("linear", DISTANCES) and not binary
            if certain or (seen and _add_up_to_1(outputs)):
                layer = "sigmoid" if binary else "softmax"
                raise ConfigError(
                    f"The network's outputs are probabilities, but {self.name} "
                    f"takes logits. Remove the {layer} from the network, or "
                    "pass a Keras loss with from_logits=False."
                )
        elif kind in (TOLD, PROBABILITIES):
            fit = _are_shares(outputs) if binary else _add_up_to_1(outputs)
            if self.outputs_by in ("linear", DISTANCES) or not fit:
                raise self._takes_probabilities(told=kind == TOLD)
        elif kind == POSITIVE and (outputs < 0).any():
            raise ConfigError(
                f"{self.name} takes outputs of at least 0. Received: outputs "
                f"from {outputs.min():g}. Let the network end in a softplus or "
                "an exponential."
            )
        elif kind == UNIT_VECTORS:
            lengths = np.linalg.norm(outputs.astype(np.float64), axis=-1)
            if np.abs(lengths - 1).max() > _tolerance(outputs):
                raise ConfigError(
                    f"{self.name} takes vectors of length 1. Let the network "
                    "end in keras.layers.UnitNormalization()."
                )
        elif self.kind == SIGNS and self.outputs_by in _OF_ONE_SIGN:
            raise ConfigError(
                f"{self.name} takes scores of either sign, but the network "
                f"ends in {self.outputs_by}. Remove that, or use a tanh."
            )

    def _takes_probabilities(self, told: bool) -> ConfigError:
        setting = " with from_logits=False" if told else ""
        remedy = "Give the loss from_logits=True, or let" if told else "Let"
        layer = "sigmoid" if self.kind == BINARY else "softmax"
        return ConfigError(
            f"{self.name}{setting} takes probabilities, but the network's "
            f"outputs are not. {remedy} the network end in a {layer}."
        )


_OF_ONE_SIGN = ("sigmoid", "softmax", "relu", "softplus")


def _are_shares(outputs: np.ndarray) -> bool:
    highest = 1 + _tolerance(outputs)
    return bool((outputs >= 0).all() and (outputs <= highest).all())


def _add_up_to_1(outputs: np.ndarray) -> bool:
    errors = np.abs(outputs.astype(np.float64).sum(-1) - 1)
    return _are_shares(outputs) and bool(errors.max() < _tolerance(outputs))


def _tolerance(outputs: np.ndarray) -> float:
    coarse = {"float16": 4e-3, "bfloat16": 3e-2}
    return coarse.get(outputs.dtype.name, TOLERANCE)


def _check_groups(targets: np.ndarray) -> None:
    """Checks that no example of a set is the only one of its class."""
    for labels in targets:
        found, counts = np.unique(labels, return_counts=True)
        if counts.min() == 1 or len(found) == 1:
            raise DataError(
                "The loss compares examples of the same class and of others. "
                f"Received: labels {labels.tolist()[:9]}. Give sets with two "
                "classes or more, and two examples of each."
            )


def _check_sequences(targets: np.ndarray, outputs: np.ndarray) -> None:
    fit = (
        targets.ndim == 2
        and outputs.ndim == 3
        and targets.shape[0] == outputs.shape[0]
        and targets.shape[1] <= outputs.shape[1]
    )
    if not fit:
        raise ConfigError(
            "ctc takes labels [examples, length], filled up with 0, and "
            "outputs [examples, time, classes], where time is at least the "
            f"length. Received: targets of shape {targets.shape}, outputs of "
            f"shape {outputs.shape}."
        )


def as_loss(loss: Any, outputs_by: str | None) -> Objective:
    """A loss given by name, as a Keras loss or as a function.

    A cross-entropy given by name takes the outputs as logits, unless the
    network ends in softmax or sigmoid.

    Args:
        loss: the user's argument.
        outputs_by: see `Objective`.

    Raises:
        ConfigError: if it is none of these.
    """
    given = loss
    by_name = isinstance(loss, str)
    loss = loss_object(
        loss, outputs_by not in ("softmax", "sigmoid") if by_name else None
    )
    if not callable(loss):
        raise ConfigError(
            "loss must be the name of a Keras loss, a Keras loss, or a "
            f"function of (targets, outputs). Received: loss={loss!r}"
        )
    known, from_logits = takes(loss), None
    if known is not None and known.outputs == TOLD:
        from_logits = loss.from_logits
    elif known is not None and known.outputs == PROBABILITIES:
        from_logits = False
    return Objective(
        given if by_name else name_of(given),
        loss,
        given,
        None if known is None else known.targets,
        from_logits,
        outputs_by,
    )


def check_method(objective: Objective, method: Method) -> None:
    """Checks that a method can learn by a loss.

    Raises:
        ConfigError: if it cannot.
    """
    kind = objective.kind
    if not method.fixed_outputs and (
        kind not in (None, SPARSE, CATEGORICAL) or objective.ignored is not None
    ):
        raise ConfigError(
            f"{method.name} classifies examples, but the loss is "
            f"{objective.name}. Use 'sparse_categorical_crossentropy', or "
            "another method."
        )
    if kind == SEQUENCE and getattr(method, "first_order", None) is False:
        raise ConfigError(
            f"{objective.name} has no second derivative in TensorFlow. Use "
            "first_order=True, or another loss."
        )


def name_of(function: Callable) -> str:
    """The display name of a loss or a function."""
    name: str = getattr(function, "__name__", "") or getattr(
        function, "name", type(function).__name__
    )
    return "a function" if name == "<lambda>" else name
