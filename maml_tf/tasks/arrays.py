"""Arrays from whatever users hold their examples in.

Arrays, lists, columns of pandas, tensors: all become NumPy arrays of booleans,
integers, floats or, for labels, text. What would lose values on the way is
refused.
"""

import decimal
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from maml_tf.errors import DataError

_INT32 = np.iinfo(np.int32)

# Rounding may change values by this share of their standard deviation, and
# make this share of neighbors equal.
_LOST_SPREAD, _LOST_NEIGHBORS = 0.01, 0.1
_NOISE = 1e-12  # of a value: differences that float64 arithmetic makes


def map_arrays(
    convert: Callable[[Any], Any], x: Any, single: bool = False
) -> Any:
    """Applies a function to each array of a structure.

    Lists of numbers or of texts, nested or not, are arrays.

    Args:
        convert: the function.
        x: an array, or a dict, list or tuple of them.
        single: whether a list or tuple of arrays is one array, too.
    """
    if isinstance(x, Mapping):
        return {k: map_arrays(convert, part) for k, part in x.items()}
    if isinstance(x, list | tuple) and not single and not _holds_scalars(x):
        parts = [map_arrays(convert, part) for part in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    return convert(x)


def _holds_scalars(x: Any) -> bool:
    """Whether a list, or the first of nested ones, holds no arrays."""
    while isinstance(x, list | tuple):
        if not x:
            return True
        x = x[0]
    return not isinstance(x, Mapping) and getattr(x, "shape", ()) == ()


def as_array(x: Any) -> np.ndarray:
    """An array of booleans, integers, floats or text.

    Raises:
        DataError: if it is none, or values are missing.
    """
    if np.ma.is_masked(x):
        raise DataError(
            "An array has masked values. Remove or fill in missing values "
            "first (numpy.ma.filled)."
        )
    try:
        array = np.asarray(x)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as e:
        raise DataError(
            "Inputs and targets must be arrays of numbers. Received: "
            f"{type(x).__name__}. Arrays of different lengths cannot be "
            "stacked."
        ) from e
    if array.dtype.kind == "T":  # strings of any length
        array = array.astype(object)
    if array.dtype.kind == "O":
        array = _of_objects(array)
    if array.dtype.kind == "S":
        array = _decoded(array)
    if array.dtype.kind in "Mm":
        raise DataError(
            f"Dates and times ({array.dtype}) are no numbers. Give the time "
            "since the first one, as in (t - t.min()) / "
            "numpy.timedelta64(1, 's')."
        )
    if array.dtype.kind not in "biufU":
        raise DataError(
            "Inputs and targets must be arrays of numbers. Received: "
            f"{type(x).__name__} of dtype {array.dtype}, shape {array.shape}."
        )
    return array


def as_numbers(x: Any) -> np.ndarray:
    """An array of booleans, integers or floats.

    Raises:
        DataError: if it is none.
    """
    array = as_array(x)
    if array.dtype.kind == "U":
        raise DataError(
            "Inputs and targets must be arrays of numbers. Received: dtype "
            f"{array.dtype}, shape {array.shape}. Text has to be encoded."
        )
    return array


def _of_objects(array: np.ndarray) -> np.ndarray:
    """An array without objects, from one of Python's or pandas' objects."""
    values = array.ravel().tolist()
    for i, value in enumerate(values):
        if _is_missing(value):
            place = tuple(map(int, np.unravel_index(i, array.shape)))
            raise DataError(
                f"A value is missing: {value} at index {place}. Remove or "
                "fill in missing values first."
            )
    if all(isinstance(v, str) for v in values):
        return array.astype(str)
    if all(isinstance(v, bytes) for v in values):
        return _decoded(array.astype(bytes))
    if all(isinstance(v, bool | np.bool_) for v in values):
        return array.astype(bool)
    if all(isinstance(v, numbers.Integral) for v in values):
        kind: type = np.int64
    elif all(isinstance(v, numbers.Real | decimal.Decimal) for v in values):
        kind = np.float64
    elif array.ndim and all(hasattr(v, "__len__") for v in values):
        return _stacked(array, values)
    else:
        found = sorted({type(v).__name__ for v in values})
        raise DataError(
            "Inputs and targets must be arrays of numbers. Received: dtype "
            f"object, shape {array.shape}, of {', '.join(found)}."
        )
    try:
        return array.astype(kind)
    except OverflowError as e:
        raise DataError("An integer is larger than 64 bits can hold.") from e


def _stacked(array: np.ndarray, values: list[Any]) -> np.ndarray:
    """An array from a column of arrays or lists, all of one shape."""
    if any(isinstance(v, str | bytes | Mapping) for v in values):
        raise DataError("Text, numbers and dicts cannot be in one array.")
    parts = [as_array(v) for v in values]
    shapes = sorted({part.shape for part in parts})
    if len(shapes) > 1:
        raise DataError(
            "Arrays of different lengths cannot be stacked. Received: shapes "
            f"{', '.join(map(str, shapes[:5]))}."
        )
    return np.stack(parts).reshape(*array.shape, *shapes[0])


def _is_missing(value: Any) -> bool:
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float | np.floating) and bool(np.isnan(value)))
    )


def _decoded(array: np.ndarray) -> np.ndarray:
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as e:
        raise DataError(
            "Labels of bytes must be text in UTF-8. Decode them first."
        ) from e


def as_classes(y: Any) -> np.ndarray:
    """The class of each example: integers, or text.

    Args:
        y: booleans, integers, floats that are whole, or text: [examples] or
            [examples, 1].

    Returns:
        Integers, or text if `y` is text or booleans: [examples].

    Raises:
        DataError: if it is none of these.
    """
    array = as_array(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        advice = ""
        if array.ndim == 2 and _is_one_hot(array):
            advice = " For one-hot labels give y.argmax(axis=1)."
        raise DataError(
            "y must hold a class for each example, integers or strings "
            f"[examples]. Received: dtype {array.dtype}, shape {array.shape}."
            f"{advice}"
        )
    if array.dtype.kind == "b":
        return array.astype(str)
    if array.dtype.kind == "f":
        whole = as_whole(array)
        if whole is None:
            odd = array[~(array == np.floor(array)) | ~np.isfinite(array)][0]
            raise DataError(
                "y must hold a class for each example, integers or strings. "
                f"Received: dtype {array.dtype}, in which {odd} is no class."
            )
        return whole
    return array


def _is_one_hot(array: np.ndarray) -> bool:
    if array.dtype.kind == "U":
        return False
    return bool(
        np.isin(array, (0, 1)).all() and (array.sum(axis=-1) == 1).all()
    )


def as_whole(x: np.ndarray) -> np.ndarray | None:
    """Numbers as int32, or int64 if they need it; None if not all are whole."""
    if x.dtype.kind == "b":
        return x.astype(np.int32)
    if x.dtype.kind == "f":
        # Up to 2**53 float64 is sure to hold each whole number.
        if not ((x == np.floor(x)) & (abs(x) <= np.float64(2**53))).all():
            return None
        x = x.astype(np.int64)
    if x.size == 0 or (x.min() >= _INT32.min and x.max() <= _INT32.max):
        return x.astype(np.int32, copy=False)
    return x.astype(np.int64) if x.max() <= np.iinfo(np.int64).max else None


def as_floats(x: np.ndarray, dtype: str, what: str) -> np.ndarray:
    """Numbers as floats of a dtype.

    Args:
        x: booleans, integers or floats.
        dtype: a floating dtype.
        what: `inputs` or `targets`, for messages.

    Raises:
        DataError: if values that differ would become the same.
    """
    # Values that are not finite are refused elsewhere.
    with np.errstate(over="ignore", invalid="ignore"):
        cast = x.astype(dtype, copy=False)
        wide = x.dtype.kind in "iu" or x.dtype.itemsize > cast.dtype.itemsize
        if x.dtype.kind != "b" and wide and x.size and x.ndim:
            _check_digits(x, cast, what)
    return cast


def _check_digits(x: np.ndarray, cast: np.ndarray, what: str) -> None:
    """Checks that rounding leaves differences between values.

    Far from 0 the steps between floats are large: those of float32 are 128
    seconds near the Unix times of today.
    """
    x = x.reshape(-1, x.shape[-1]) if x.ndim > 1 else x[:, np.newaxis]
    low, high = x.min(axis=0), x.max(axis=0)
    largest = np.maximum(abs(low.astype(float)), abs(high.astype(float)))
    step = np.spacing(largest.astype(cast.dtype)).astype(float)
    # Elsewhere values are near 0 beside their differences.
    far = (high.astype(float) - low < largest / 4) | (step > 1)
    for column in np.flatnonzero(far & (low < high)):
        before = x[:, column]
        after = cast.reshape(x.shape)[:, column].astype(float)
        error = abs(after - before).max()
        distinct = np.unique(before).astype(float)
        distinct = distinct[
            np.diff(distinct, prepend=-np.inf) > _NOISE * largest[column]
        ]
        equal = np.diff(distinct.astype(cast.dtype)) == 0
        if len(equal) and (
            error > _LOST_SPREAD * distinct.std()
            or (
                len(distinct) < 1 / _LOST_NEIGHBORS**3
                and equal.mean() > _LOST_NEIGHBORS
            )
        ):
            raise DataError(
                f"The {what} lose their digits in {cast.dtype}, in which the "
                f"network computes: values from {low[column]:.17g} to "
                f"{high[column]:.17g} change by up to {error:.3g}. Subtract "
                "their mean or the smallest first, and divide by their spread."
            )
