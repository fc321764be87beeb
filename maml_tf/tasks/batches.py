"""Makes batches of users' arrays and checks them."""

from typing import Any

import numpy as np
import tensorflow as tf

from maml_tf.core.losses import Batch
from maml_tf.core.maml import Task
from maml_tf.errors import DataError
from maml_tf.tasks.arrays import as_array, as_numbers, map_arrays


def as_batch(
    inputs: Any, targets: Any, single: tuple[bool, bool] = (False, False)
) -> Batch:
    """Inputs and targets as NumPy arrays of their own dtypes.

    Args:
        inputs: as for `as_inputs`.
        targets: as for `as_targets`.
        single: of inputs and of targets, whether a list or tuple of arrays is
            one array.

    Raises:
        DataError: if they are not arrays.
    """
    return Batch(as_inputs(inputs, single[0]), as_targets(targets, single[1]))


def as_inputs(inputs: Any, single: bool = False) -> Any:
    """Numbers [..., examples, ...], or a structure of them, as arrays.

    Args:
        inputs: in any form that `arrays.as_numbers` takes.
        single: whether a list or tuple of arrays is one array.

    Raises:
        DataError: if they are not numbers.
    """
    return map_arrays(lambda x: _of_examples(as_numbers(x)), inputs, single)


def as_targets(targets: Any, single: bool = False) -> Any:
    """Numbers or text [..., examples, ...], or a structure of them, as arrays.

    Args:
        targets: in any form that `arrays.as_array` takes.
        single: as for `as_inputs`.

    Raises:
        DataError: if they are neither.
    """
    return map_arrays(lambda y: _of_examples(as_array(y)), targets, single)


def _of_examples(array: np.ndarray) -> np.ndarray:
    if array.ndim == 0:
        raise DataError(
            "Inputs and targets need a first axis of examples. Received: a "
            "single number."
        )
    return array


def check_sizes(batch: Batch, leading: int = 1) -> None:
    """Checks that there are as many targets as inputs, at least one.

    Args:
        batch: arrays [..., examples, ...].
        leading: number of axes up to and including that of the examples.

    Raises:
        DataError: if not.
    """
    sizes = {x.shape[:leading] for x in tf.nest.flatten(batch)}
    if len(sizes) > 1 or 0 in min(sizes) or len(min(sizes)) < leading:
        raise DataError(
            "Inputs and targets must have the same number of examples, at "
            f"least 1. Received: shapes {_shapes(batch.inputs)} and "
            f"{_shapes(batch.targets)}"
        )


def spec_of(batch: Batch, leading: int = 1) -> Batch:
    """`tf.TensorSpec`s for any number of such examples.

    Args:
        batch: arrays [..., examples, ...].
        leading: axes up to and with that of the examples.
    """
    return tf.nest.map_structure(
        lambda x: tf.TensorSpec([None, *x.shape[leading:]], x.dtype), batch
    )


def check_spec(found: Any, expected: Any, what: str) -> None:
    """Checks that examples are like those seen before.

    Args:
        found: specs of the new examples.
        expected: specs of earlier examples; lengths of None fit any.
        what: `inputs` or `targets`.

    Raises:
        DataError: if shapes, dtypes or structure differ.
    """
    try:
        tf.nest.assert_same_structure(found, expected)
        fits = all(
            e.is_compatible_with(f)
            for f, e in zip(
                tf.nest.flatten(found), tf.nest.flatten(expected), strict=True
            )
        )
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise DataError(
            f"The {what} must be like those of the tasks before: "
            f"{_describe(expected)}. Received: {_describe(found)}. (None is "
            "the number of examples; for one example x give x[None].)"
        )


def check_finite(batch: Batch, what: str) -> None:
    """Checks that floating values are finite.

    Raises:
        DataError: if one is not.
    """
    for name, part in zip(batch._fields, batch, strict=True):
        for x in tf.nest.flatten(part):
            if np.issubdtype(x.dtype, np.floating) and not np.isfinite(x).all():
                place = np.argwhere(~np.isfinite(x))[0]
                raise DataError(
                    f"The {name} of {what} hold values that are not finite: "
                    f"{x[tuple(place)]} at index {tuple(map(int, place))}. "
                    "Remove or fill in missing values first."
                )


def as_task(tasks: Any, single: tuple[bool, bool] = (False, False)) -> Task:
    """A stream's tasks, as a stacked `Task` of arrays.

    Args:
        tasks: pairs of inputs and targets, of the support and the query sets.
        single: as for `as_batch`.

    Raises:
        DataError: if it is not a pair of pairs, or sizes do not agree.
    """
    try:
        support, query = tasks
        (support_x, support_y), (query_x, query_y) = support, query
    except (TypeError, ValueError) as e:
        raise DataError(
            "A stream's tasks(first, count) must give (support, query), each "
            f"a pair (inputs, targets). Received: {type(tasks).__name__}"
        ) from e
    return Task(
        as_batch(support_x, support_y, single),
        as_batch(query_x, query_y, single),
    )


def _shapes(structure: Any) -> str:
    return ", ".join(str(x.shape) for x in tf.nest.flatten(structure))


def _describe(specs: Any) -> str:
    return ", ".join(
        f"{s.dtype.name} {tuple(s.shape)}" for s in tf.nest.flatten(specs)
    )
