"""What Keras' losses take as targets and as outputs."""

import dataclasses
import inspect
from typing import Any

import keras
import numpy as np

from maml_tf.errors import ConfigError, DataError, first_lines

# Kinds of targets: integer labels; one-hot or probabilities; 0 or 1; two signs;
# numbers compared with outputs element by element; labels that say which
# examples belong together; sequences of labels.
SPARSE, CATEGORICAL, BINARY, SIGNS, ELEMENTWISE, GROUPS, SEQUENCE = (
    "sparse",
    "categorical",
    "binary",
    "signs",
    "elementwise",
    "groups",
    "sequence",
)
# Kinds of outputs: logits or probabilities, as the loss is told; probabilities;
# rates, at least 0; vectors of length 1; any numbers.
TOLD, PROBABILITIES, POSITIVE, UNIT_VECTORS, SCORES = (
    "told",
    "probabilities",
    "positive",
    "unit vectors",
    "scores",
)
TOLERANCE = 1e-3  # of a sum of probabilities


@dataclasses.dataclass(frozen=True)
class Takes:
    """What a loss takes.

    Attributes:
        targets: the kind of targets.
        outputs: the kind of outputs.
    """

    targets: str
    outputs: str = SCORES


_L = keras.losses
_TAKES = {
    _L.SparseCategoricalCrossentropy: Takes(SPARSE, TOLD),
    _L.CategoricalGeneralizedCrossEntropy: Takes(SPARSE, PROBABILITIES),
    _L.Circle: Takes(GROUPS, UNIT_VECTORS),
    _L.CategoricalCrossentropy: Takes(CATEGORICAL, TOLD),
    _L.CategoricalFocalCrossentropy: Takes(CATEGORICAL, TOLD),
    _L.CategoricalHinge: Takes(CATEGORICAL),
    _L.KLDivergence: Takes(CATEGORICAL, PROBABILITIES),
    _L.BinaryCrossentropy: Takes(BINARY, TOLD),
    _L.BinaryFocalCrossentropy: Takes(BINARY, TOLD),
    _L.Dice: Takes(BINARY, PROBABILITIES),
    _L.Tversky: Takes(BINARY, PROBABILITIES),
    _L.Hinge: Takes(SIGNS),
    _L.SquaredHinge: Takes(SIGNS),
    _L.MeanSquaredError: Takes(ELEMENTWISE),
    _L.MeanAbsoluteError: Takes(ELEMENTWISE),
    _L.MeanAbsolutePercentageError: Takes(ELEMENTWISE),
    _L.MeanSquaredLogarithmicError: Takes(ELEMENTWISE),
    _L.CosineSimilarity: Takes(ELEMENTWISE),
    _L.Huber: Takes(ELEMENTWISE),
    _L.LogCosh: Takes(ELEMENTWISE),
    _L.Poisson: Takes(ELEMENTWISE, POSITIVE),
    _L.CTC: Takes(SEQUENCE),
}
_CLASS_OF = {
    function: kind
    for kind in _TAKES
    for name, function in vars(_L).items()
    if inspect.isfunction(function)
    and name.replace("_", "") == kind.__name__.lower()
}


def takes(loss: Any) -> Takes | None:
    """What a Keras loss takes; None for any other."""
    return _TAKES.get(type(loss))


def loss_object(loss: Any, from_logits: bool | None = None) -> Any:
    """A loss by name, as a class or as one of Keras' functions, as an object.

    Args:
        loss: one of them; whatever else is returned as it is.
        from_logits: whether a loss that can be told is to take logits; None
            takes Keras' default.

    Raises:
        ConfigError: if there is no such loss.
    """
    given = loss
    if isinstance(loss, str):
        loss = {
            name: kind
            for function, kind in _CLASS_OF.items()
            for name in (kind.__name__, function.__name__)
        }.get(loss) or _by_keras(loss)
    if inspect.isfunction(loss):
        loss = _CLASS_OF.get(loss, loss)
    if not inspect.isclass(loss):
        return loss
    arguments = {}
    known = _TAKES.get(loss)
    if from_logits is not None and known and known.outputs == TOLD:
        arguments["from_logits"] = from_logits
    try:
        return loss(**arguments)
    except TypeError as e:
        raise ConfigError(
            f"The loss {given!r} needs arguments ({first_lines(e)}). Give it "
            "as an object."
        ) from e


def _by_keras(name: str) -> Any:
    """What Keras calls a loss by this name, such as `mse`."""
    try:
        return keras.losses.get(name)
    except (ValueError, TypeError) as e:
        raise ConfigError(
            f"Keras has no loss {name!r}. Names are such as 'mse', 'mae' and "
            "'sparse_categorical_crossentropy'; or give a function of "
            "(targets, outputs)."
        ) from e


def check_values(
    loss: Any, name: str, targets: np.ndarray, of_pixels: bool
) -> None:
    """Checks that targets mean to a Keras loss what they hold.

    Class numbers are not checked here.

    Args:
        loss: the loss.
        name: its name in messages.
        targets: of one task or of several.
        of_pixels: whether an example has several targets, of which some may
            have no class (one-hot: all 0).

    Raises:
        DataError: if they do not.
    """
    kind = _TAKES[type(loss)].targets
    if kind == ELEMENTWISE:
        _check_numbers(loss, name, targets)
        return
    if kind not in (CATEGORICAL, BINARY, SIGNS):
        return
    low, high = float(targets.min()), float(targets.max())
    lowest = -1 if kind == SIGNS else 0
    if low < lowest or high > 1 + TOLERANCE:
        raise DataError(
            f"{name} takes targets {_expected(kind)}. Received: targets from "
            f"{low:g} to {high:g}. {_remedy(kind, low, high)}"
        )
    if kind == SIGNS:
        found = set(np.unique(targets).tolist())
        if not (found <= {0, 1} or found <= {-1, 1}):
            raise DataError(
                f"{name} takes targets {_expected(kind)}. Received: targets "
                f"{sorted(found)[:4]}. Give y > 0 as integers."
            )
    if kind == CATEGORICAL:
        sums = targets.sum(-1, dtype=np.float64)
        wrong = np.abs(sums - 1) > TOLERANCE
        if of_pixels:
            wrong &= sums != 0
        if wrong.any():
            raise DataError(
                f"{name} takes targets {_expected(kind)}, but a row adds up to "
                f"{sums[wrong].flat[0]:g}. If an example can be of several "
                "classes, use 'binary_crossentropy'."
            )


def _check_numbers(loss: Any, name: str, targets: np.ndarray) -> None:
    if isinstance(loss, _L.MeanAbsolutePercentageError):
        wrong, what = (targets == 0).any(), "other than 0"
    elif isinstance(loss, _L.Poisson | _L.MeanSquaredLogarithmicError):
        wrong, what = (targets < 0).any(), "of at least 0"
    else:
        return
    if wrong:
        raise DataError(
            f"{name} takes targets {what}. Received: targets from "
            f"{targets.min():g} to {targets.max():g}. Use another loss, such "
            "as 'mse'."
        )


def _expected(kind: str) -> str:
    return {
        CATEGORICAL: "that are one-hot, or probabilities of the classes",
        BINARY: "of 0 or 1, or between",
        SIGNS: "of -1 or 1, or of 0 or 1",
    }[kind]


def _remedy(kind: str, low: float, high: float) -> str:
    if low == -1 and high == 1:
        return "Give (y + 1) / 2."
    if low == 0 and high == 255:
        return "Masks of 0 and 255 become 0 and 1 by y // 255."
    if kind == CATEGORICAL:
        return "For integer labels use 'sparse_categorical_crossentropy'."
    return "For numbers use a loss of regression, such as 'mse'."


def activation_of(model: keras.Model) -> str | None:
    """Name of the activation that the outputs visibly come from.

    `linear` if it is certain that there is none; None if there are several
    outputs or it cannot be seen, as in a subclassed model. A layer without
    activations has its own name, such as `softmax` or `unitnormalization`.
    """
    outputs = getattr(model, "outputs", None)
    if not outputs or len(outputs) > 1:
        return None
    tensor = outputs[0]
    while True:
        layer, node, _ = tensor._keras_history
        if isinstance(layer, keras.Model):
            return activation_of(layer)
        own = getattr(layer, "activation", None)
        linear = own is keras.activations.linear
        moves_values = isinstance(layer, _MOVE_VALUES) or (
            linear and isinstance(layer, keras.layers.Activation)
        )
        if not moves_values:
            break
        (tensor,) = layer._inbound_nodes[node].input_tensors
    if isinstance(layer, keras.layers.TimeDistributed):
        layer = layer.layer
        own = getattr(layer, "activation", None)
        linear = own is keras.activations.linear
    if linear:
        return "linear" if isinstance(layer, _WEIGHTED) else None
    return getattr(own, "__name__", None) or type(layer).__name__.lower()


_WEIGHTED = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_MOVE_VALUES = (
    keras.layers.Reshape,
    keras.layers.Flatten,
    keras.layers.Permute,
    keras.layers.Cropping1D,
    keras.layers.Cropping2D,
    keras.layers.Identity,
)
