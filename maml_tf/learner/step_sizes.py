"""Step sizes that users give for evaluation and adaptation."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from maml_tf.core.maml import StepSize
from maml_tf.errors import ConfigError, DataError
from maml_tf.tasks.arrays import as_numbers


def checked_step_size(
    alpha: Any, variables: Sequence[keras.Variable]
) -> StepSize:
    """A step size for all variables, or a list of one for each.

    Args:
        alpha: a number that is not negative; or a list of such numbers and of
            arrays of the variables' shapes. Step sizes that were learned are
            such arrays, and may be negative.
        variables: the trainable variables.

    Raises:
        ConfigError: if it is neither.
    """
    if not isinstance(alpha, list | tuple):
        return _number(alpha)
    if len(alpha) != len(variables):
        raise ConfigError(
            "alpha must be a number, or a list of one for each of the "
            f"{len(variables)} trainable variables. Received: a list of "
            f"{len(alpha)}"
        )
    return [
        _number(size) if np.ndim(size) == 0 else _array(size, variable)
        for size, variable in zip(alpha, variables, strict=True)
    ]


def _number(value: Any) -> float:
    try:
        array = as_numbers(value)
    except DataError:
        array = np.array(False)
    number = array.ndim == 0 and array.dtype.kind in "iuf"
    if not number or not 0 <= array < np.inf:
        raise ConfigError(
            "alpha must be a number that is finite and not negative. Received: "
            f"alpha={value!r}"
        )
    return float(array)


def _array(value: Any, variable: keras.Variable) -> np.ndarray:
    array = as_numbers(value)
    if array.shape != variable.shape or not np.isfinite(array).all():
        raise ConfigError(
            f"alpha of {variable.path} must be a number, or an array of shape "
            f"{tuple(variable.shape)} whose values are finite. Received: shape "
            f"{array.shape}"
        )
    return array.astype(variable.dtype)
