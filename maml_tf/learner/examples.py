"""Examples as a network takes them, whatever the user holds them in.

Integers of any width, booleans and lists are numbers, and what counts is their
values: the same examples are accepted before and after others of another dtype.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_tf.core.batch import Batch, WeightedBatch
from maml_tf.core.maml import Task
from maml_tf.errors import DataError
from maml_tf.objectives.keras_losses import BINARY, SPARSE, WHOLE_NUMBERS
from maml_tf.tasks import batches
from maml_tf.tasks.arrays import as_floats, as_whole


class Examples:
    """Turns users' examples into arrays of the dtypes of a network."""

    def __init__(self, model: keras.Model, kind: str | None):
        """
        Args:
            model: the network.
            kind: the loss' kind of targets (objectives/objective.py).
        """
        # Of a subclassed model there are none.
        self._declared = [
            tf.TensorSpec(x.shape, x.dtype, x.name)
            for x in getattr(model, "inputs", None) or ()
        ]
        # A loss of a known kind takes one array of targets.
        self._single = len(self._declared) == 1, kind is not None
        self._kind = kind
        self._dtype = keras.backend.standardize_dtype(
            model.trainable_variables[0].dtype
        )

    def inputs(self, x: Any, known: Any = None) -> Any:
        """Inputs alone, as `support` gives them."""
        return self._inputs(batches.as_inputs(x, self._single[0]), known)

    def support(
        self, x: Any, y: Any, known: Batch | None, weights: Any = None
    ) -> tuple[Batch | WeightedBatch, tuple[str, ...] | None]:
        """A support set, and the classes that text names, in their order.

        Args:
            x: inputs.
            y: targets; text is numbered in the order of the alphabet.
            known: specs of earlier examples.
            weights: [examples]; None: they count alike.

        Raises:
            DataError: if they are no numbers.
        """
        batch = batches.as_batch(x, y, weights, self._single)
        classes = None
        if _is_text(batch.targets):
            classes = _classes_of(batch.targets)
            self._check_text(len(classes))
            batch = batch._replace(targets=numbered(batch.targets, classes))
        return self.like(batch, known), classes

    def targets(
        self, y: Any, known: Any, classes: tuple[str, ...] | None
    ) -> Any:
        """Targets of further examples of a task.

        Args:
            y: the targets.
            known: specs of earlier ones.
            classes: what `support` returned.

        Raises:
            DataError: if they are no numbers, or text that names no class.
        """
        found = batches.as_targets(y, self._single[1])
        if _is_text(found):
            if classes is None:
                raise DataError(
                    "The targets are text, but those of the support set were "
                    "numbers. Give numbers."
                )
            found = numbered(found, classes)
        elif classes is not None:
            raise DataError(
                "The targets are numbers, but those of the support set were "
                f"text. Give some of: {', '.join(classes)}."
            )
        return self._targets(found, known, 1)

    def tasks(self, tasks: Any, known: Batch | None) -> Task:
        """A stream's tasks, stacked.

        Args:
            tasks: stacked support and query sets; the text of a task is
                numbered in the order of the alphabet.
            known: specs of earlier examples.

        Raises:
            DataError: if they are no numbers.
        """
        task = batches.as_task(tasks, self._single)
        if _is_text(task.support.targets) or _is_text(task.query.targets):
            task = self._numbered_tasks(task)
        return Task(*(self.like(batch, known, 2) for batch in task))

    def like(
        self,
        batch: Batch | WeightedBatch,
        known: Batch | None,
        leading: int = 1,
    ) -> Batch | WeightedBatch:
        """Arrays of numbers in the dtypes, and with the last axes, of others.

        Args:
            batch: arrays [..., examples, ...].
            known: specs of earlier examples; None takes what the network
                declares.
            leading: axes up to and with that of the examples.

        Raises:
            DataError: if values would be lost.
        """
        inputs = self._inputs(batch.inputs, known and known.inputs, leading)
        targets = self._targets(batch.targets, known and known.targets, leading)
        if isinstance(batch, WeightedBatch):
            weights = batch.weights.astype(self._dtype)
            return WeightedBatch(inputs, targets, weights)
        return Batch(inputs, targets)

    def _numbered_tasks(self, task: Task) -> Task:
        support, query = task.support.targets, task.query.targets
        if not (_is_text(support) and _is_text(query)):
            raise DataError(
                "The targets of a support set and of its query set must both "
                "be text, or both be numbers."
            )
        numbers: tuple[list, list] = ([], [])
        for labels, query_labels in zip(support, query, strict=True):
            classes = _classes_of(labels)
            self._check_text(len(classes))
            numbers[0].append(numbered(labels, classes))
            numbers[1].append(numbered(query_labels, classes))
        return Task(
            *(
                batch._replace(targets=np.stack(found))
                for batch, found in zip(task, numbers, strict=True)
            )
        )

    def _check_text(self, num_classes: int) -> None:
        if self._kind not in (SPARSE, BINARY):
            raise DataError(
                "The targets are text, but the loss does not take classes. Use "
                "'sparse_categorical_crossentropy', or give numbers."
            )
        if self._kind == BINARY and num_classes != 2:
            raise DataError(
                "The loss takes two classes. Received: text that names "
                f"{num_classes}."
            )

    def _inputs(self, inputs: Any, known: Any, leading: int = 1) -> Any:
        flat = tf.nest.flatten(inputs)
        like = _flat_like(inputs, known) or self._declared_like(inputs)
        if like is None:
            found = [self._as_numbers(x, None, "inputs") for x in flat]
        else:
            found = [
                self._as_numbers(
                    _reshaped(x, spec, leading), spec.dtype, "inputs"
                )
                for x, spec in zip(flat, like, strict=True)
            ]
        return tf.nest.pack_sequence_as(inputs, found)

    def _declared_like(self, inputs: Any) -> list[tf.TensorSpec] | None:
        """What the network declares, in the order of the flat inputs."""
        if isinstance(inputs, Mapping):
            by_name = {spec.name: spec for spec in self._declared}
            if set(inputs) <= set(by_name):
                return [by_name[name] for name in sorted(inputs)]
        if len(tf.nest.flatten(inputs)) == len(self._declared):
            return self._declared
        return None

    def _targets(self, targets: Any, known: Any, leading: int = 1) -> Any:
        if self._kind is not None and not isinstance(targets, np.ndarray):
            raise DataError(
                "The loss takes one array of targets. Received: "
                f"{type(targets).__name__}. A loss function of (targets, "
                "outputs) of your own can take several."
            )
        flat = tf.nest.flatten(targets)
        like = _flat_like(targets, known)
        if like is None:
            dtype = None if self._kind is None else self._dtype
            if self._kind in WHOLE_NUMBERS:
                dtype = tf.int32
            found = [self._as_numbers(y, dtype, "targets") for y in flat]
        else:
            found = [
                self._as_numbers(
                    _reshaped(y, spec, leading), spec.dtype, "targets"
                )
                for y, spec in zip(flat, like, strict=True)
            ]
        return tf.nest.pack_sequence_as(targets, found)

    def _as_numbers(self, x: np.ndarray, dtype: Any, what: str) -> np.ndarray:
        """An array of a dtype, or of the nearest that holds its values.

        Args:
            x: any array.
            dtype: what is wanted; None: floats or integers, as they are.
            what: `inputs` or `targets`, for messages.
        """
        if x.dtype.kind == "U":
            raise DataError(
                f"The {what} hold text, but must be numbers. Encode them."
            )
        wanted = None if dtype is None else tf.as_dtype(dtype)
        if wanted == tf.bool and x.dtype.kind == "b":
            return x
        floating = x.dtype.kind == "f" if wanted is None else wanted.is_floating
        whole = None if floating else as_whole(x)
        if whole is None:
            return as_floats(x, self._dtype, what)
        if wanted is not None and wanted.is_integer and whole.size:
            low, high = wanted.limits
            if low <= whole.min() and whole.max() <= high:
                return whole.astype(wanted.as_numpy_dtype, copy=False)
        return whole


def numbered(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Text as its place in `classes`, int32.

    Args:
        labels: text.
        classes: what it may say, ascending.

    Raises:
        DataError: if it says something else.
    """
    known = np.array(classes)
    places = np.searchsorted(known, labels).clip(max=len(known) - 1)
    unknown = labels[known[places] != labels]
    if unknown.size:
        raise DataError(
            f"{unknown[0]} is none of the support set's classes: "
            f"{', '.join(classes)}. Give examples of it there, too."
        )
    return places.astype(np.int32)


def _classes_of(labels: np.ndarray) -> tuple[str, ...]:
    return tuple(str(name) for name in np.unique(labels))


def _is_text(targets: Any) -> bool:
    return isinstance(targets, np.ndarray) and targets.dtype.kind == "U"


def _flat_like(structure: Any, known: Any) -> list[tf.TensorSpec] | None:
    """The specs of a structure, flat; None if there are none like it."""
    try:
        tf.nest.assert_same_structure(structure, known)
    except (TypeError, ValueError):
        return None
    return None if known is None else tf.nest.flatten(known)


def _reshaped(x: np.ndarray, spec: tf.TensorSpec, leading: int) -> np.ndarray:
    """With or without a last axis of length 1, as others have it."""
    rank = spec.shape.rank
    if rank is None:
        return x
    surplus = x.ndim - (rank + leading - 1)
    if surplus == 1 and x.shape[-1] == 1:
        return x[..., 0]
    if surplus == -1 and rank > 1 and spec.shape[-1] == 1:
        return x[..., np.newaxis]
    return x
