"""Makes batches of users' arrays and checks them."""

from typing import Any

import numpy as np
import tensorflow as tf

from maml_tf.core.batch import Batch, WeightedBatch, weights_of
from maml_tf.core.maml import Task
from maml_tf.errors import DataError
from maml_tf.tasks.arrays import as_array, as_numbers, map_arrays


def as_batch(
    inputs: Any,
    targets: Any,
    weights: Any = None,
    single: tuple[bool, bool] = (False, False),
) -> Batch | WeightedBatch:
    """Inputs and targets as NumPy arrays of their own dtypes.

    Args:
        inputs: as for `as_inputs`.
        targets: as for `as_targets`.
        weights: as for `as_weights`; None: examples count alike.
        single: of inputs and of targets, whether a list or tuple of arrays is
            one array.

    Raises:
        DataError: if they are not arrays.
    """
    inputs = as_inputs(inputs, single[0])
    targets = as_targets(targets, single[1])
    if weights is None:
        return Batch(inputs, targets)
    return WeightedBatch(inputs, targets, as_weights(weights))


def as_weights(weights: Any) -> np.ndarray:
    """Weights [..., examples] of sets as floats.

    Raises:
        DataError: if they are not numbers of at least 0, or all of a set are 0.
    """
    found = _of_examples(as_numbers(weights))
    if found.dtype.kind != "f":
        found = found.astype(np.float32)
    if not np.isfinite(found).all() or (found < 0).any():
        raise DataError(
            "Weights of examples must be finite and at least 0. Received: "
            f"weights from {found.min()} to {found.max()}"
        )
    if not found.any(-1).all():
        raise DataError(
            "The weights of a set are all 0. Let one example count, at least."
        )
    return found


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


def check_sizes(batch: Batch | WeightedBatch, leading: int = 1) -> None:
    """Checks that there are as many targets as inputs, at least one.

    There must be one weight for each, or none.

    Args:
        batch: arrays [..., examples, ...].
        leading: number of axes up to and including that of the examples.

    Raises:
        DataError: if not.
    """
    pair = batch.inputs, batch.targets
    sizes = {x.shape[:leading] for x in tf.nest.flatten(pair)}
    if len(sizes) > 1 or 0 in min(sizes) or len(min(sizes)) < leading:
        raise DataError(
            "Inputs and targets must have the same number of examples, at "
            f"least 1. Received: shapes {_shapes(batch.inputs)} and "
            f"{_shapes(batch.targets)}"
        )
    weights = weights_of(batch)
    if weights is not None and {weights.shape} != sizes:
        raise DataError(
            "There must be a weight for each example. Received: weights of "
            f"shape {weights.shape} for inputs {_shapes(batch.inputs)}"
        )


def spec_of(batch: Any, leading: int = 1) -> Any:
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


def check_finite(batch: Batch | WeightedBatch, what: str) -> None:
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
        tasks: pairs of inputs and targets, of the support and the query sets;
            or inputs, targets and weights of examples, of both or one of them.
        single: as for `as_batch`.

    Raises:
        DataError: if it is not a pair of pairs, or sizes do not agree.
    """
    try:
        support, query = tasks
        sets = [_with_weights(*support), _with_weights(*query)]
    except (TypeError, ValueError) as e:
        raise DataError(
            "A stream's tasks(first, count) must give (support, query), each "
            "(inputs, targets) or (inputs, targets, weights). Received: "
            f"{type(tasks).__name__}"
        ) from e
    return alike(Task(*(as_batch(*parts, single=single) for parts in sets)))


def alike(task: Task) -> Task:
    """The same task, with weights in both sets if one of them has any.

    Args:
        task: of arrays [..., examples, ...].
    """
    weights = [w for w in map(weights_of, task) if w is not None]
    if len(weights) != 1:
        return task

    def weighted(batch: Batch | WeightedBatch) -> WeightedBatch:
        if isinstance(batch, WeightedBatch):
            return batch
        shape = tf.nest.flatten(batch.inputs)[0].shape[: weights[0].ndim]
        return WeightedBatch(*batch, np.ones(shape, weights[0].dtype))

    return Task(*map(weighted, task))


def _with_weights(
    inputs: Any, targets: Any, weights: Any = None
) -> tuple[Any, Any, Any]:
    return inputs, targets, weights


def _shapes(structure: Any) -> str:
    return ", ".join(str(x.shape) for x in tf.nest.flatten(structure))


def _describe(specs: Any) -> str:
    return ", ".join(
        f"{s.dtype.name} {tuple(s.shape)}" for s in tf.nest.flatten(specs)
    )
