"""Task streams from folders, arrays, series, functions and datasets.

All are `TaskStream`s: `tasks(first, count)` gives tasks by number. With `split`
the classes (series, seeds) are divided into three parts that share none:
"train", "validation" and "test".
"""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.task_stream import TaskStream
from maml_tf.datasets import decoding, image_files
from maml_tf.datasets.image_preparation import SCALE, ImagePreparation
from maml_tf.datasets.packed_images import ImageClasses
from maml_tf.errors import ConfigError, DataError, check_whole_number
from maml_tf.tasks import sampled
from maml_tf.tasks.arrays import as_classes, as_numbers, map_arrays
from maml_tf.tasks.batches import check_finite
from maml_tf.tasks.csv_files import CsvFormat, read_csv
from maml_tf.tasks.functions import DatasetTasks, FunctionTasks
from maml_tf.tasks.sampled import (
    SampledTasks,
    in_groups,
    names_of_split,
)
from maml_tf.tasks.series import concatenate


def tasks_from_folder(
    path: str | os.PathLike,
    num_ways: int = 5,
    num_shots: int = 1,
    num_queries: int | None = None,
    *,
    size: int | Sequence[int] = 84,
    channels: int = 3,
    white: float | None = None,
    split: str | None = None,
    seed: int = 0,
    drop_small: bool = False,
) -> SampledTasks:
    """N-way K-shot tasks of images in a folder for each class.

    All images are read into memory at once. The class folders may also be in
    folders train, val and test; `split` then chooses one of these. Files may be
    JPEG, PNG, WebP, TIFF, BMP, GIF or PPM; each is made what
    `ImagePreparation` says, upright by EXIF. `prepare` of the stream does that
    to further images.

    Args:
        path: the folder of class folders.
        num_ways: N, classes of a task.
        num_shots: K, support images of a class.
        num_queries: Q, query images of a class; None: K.
        size: height and width that images are resized to, or one number for
            both.
        channels: 3, or 1 for shades of grey.
        white: the value that is white in images of more than 8 bits; None: the
            smallest of 255, 1023, 4095, 16383 and 65535 that holds the values
            of all of them, in all splits.
        split: which part of the classes to use; None uses all.
        seed: of the draws.
        drop_small: leave out classes with fewer than K + Q examples, after
            splitting, rather than refuse them; the stream's `left_out` names
            them.

    Returns:
        Tasks with inputs float32 [N*K, height, width, channels] in [0, 1]
        and targets int32 [N*K], labels 0, ..., N - 1 (N*Q in the query set).

    Raises:
        DataError: if there are no such images, or too few.
        ConfigError: if an argument makes no sense.
    """
    sampled.check_split(split)
    prepare = ImagePreparation(size, channels, white)
    classes, all_files = _classes_in(pathlib.Path(path), split)
    with decoding.refusing_bombs():
        if white is None:
            white = image_files.find_white(all_files)
            prepare = dataclasses.replace(prepare, white=white)
        images = _read(classes, prepare)
    counts = np.array([len(files) for files in classes.values()])
    groups = ImageClasses(
        images, tuple(classes), np.cumsum(counts) - counts, counts
    )
    return SampledTasks(
        images,
        None,
        groups,
        num_ways,
        num_shots,
        num_shots if num_queries is None else num_queries,
        seed,
        split or "train",
        scale=SCALE,
        prepare=prepare,
        drop_small=drop_small,
    )


def _read(
    classes: image_files.Classes, preparation: ImagePreparation
) -> np.ndarray:
    """All images, class after class: uint8 [images, height, width, channels].

    Raises:
        DataError: if files cannot be read; all are named.
    """
    files = [file for files in classes.values() for file in files]
    images, refused = [], []
    for image in image_files.read_images(files, preparation):
        if isinstance(image, image_files.UnusableFile):
            refused.append(image)
        else:
            images.append(image)
    if refused:
        raise image_files.unusable(refused, len(files))
    return np.stack(images)


def tasks_from_arrays(
    x: Any,
    y: Any,
    num_ways: int,
    num_shots: int,
    num_queries: int | None = None,
    *,
    split: str | None = None,
    seed: int = 0,
    drop_small: bool = False,
) -> TaskStream:
    """N-way K-shot tasks of labelled examples.

    Args:
        x: an array [examples, ...], or a structure of them for a model with
            several inputs. A list of arrays is a structure if each has as many
            rows as there are examples, else a list of examples.
        y: the class of each example, integers or strings [examples] or
            [examples, 1]: an array, a list, a column of pandas.
        num_ways, num_shots, num_queries, split, seed, drop_small: as for
            `tasks_from_folder`.

    Returns:
        Tasks whose targets are labels 0, ..., N - 1 of the task, int32.

    Raises:
        DataError: if labels are not as above, or examples too few.
        ConfigError: if an argument makes no sense.
    """
    y = as_classes(y)
    inputs = map_arrays(as_numbers, x, single=_is_rows(x, len(y)))
    for array in tf.nest.flatten(inputs):
        if array.ndim == 0 or len(array) != len(y):
            raise DataError(
                "x and y must have the same number of examples. Received: "
                f"shapes {array.shape} and {y.shape}"
            )
    if len(np.unique(y)) < 2:
        raise DataError(
            "y holds one class only; there is nothing to tell it from. Bring "
            "examples of at least num_ways classes."
        )
    check_finite(Batch(inputs, ()), "the examples")
    order, groups = in_groups(y)
    return SampledTasks(
        tf.nest.map_structure(lambda a: a[order], inputs),
        None,
        groups.select(names_of_split(groups.names, split, "classes")),
        num_ways,
        num_shots,
        num_shots if num_queries is None else num_queries,
        seed,
        split or "train",
        drop_small=drop_small,
    )


def tasks_from_series(
    source: str | os.PathLike | Sequence[tuple[Any, Any]],
    num_shots: int,
    num_queries: int | None = None,
    *,
    columns: tuple[str, Sequence[str], Sequence[str]] | None = None,
    split: str | None = None,
    seed: int = 0,
    drop_small: bool = False,
    encoding: str | None = None,
    delimiter: str | None = None,
    decimal: str | None = None,
) -> TaskStream:
    """Regression tasks, each a few points of one of many series.

    Args:
        source: pairs (x, y) of arrays [points, ...], one for each series; or
            a CSV file with a header and a row for each point.
        num_shots: K, points of a support set.
        num_queries: Q, points of a query set; None: K.
        columns: of a CSV file: the column of the series, those of x and those
            of y. None: the first, all between, and the last.
        split: which part of the series to use; None uses all.
        seed: of the draws.
        drop_small: leave out series with fewer than K + Q points, as
            `tasks_from_folder` does classes.
        encoding: of a CSV file; None: UTF-8, or what its first bytes say.
        delimiter: of its fields; None: a comma, semicolon, tab or bar, as its
            first line says.
        decimal: its decimal mark, "." or ","; None finds it out. What may be
            read in two ways is refused.

    Returns:
        Tasks with inputs and targets [K, ...] and [Q, ...]; from a CSV file
        float64 [K, columns].

    Raises:
        DataError: if the file or a series cannot be used.
        ConfigError: if an argument makes no sense.
    """
    written = CsvFormat(encoding, delimiter, decimal)
    if isinstance(source, str | os.PathLike):
        names, inputs, targets = read_csv(
            pathlib.Path(source), columns, written
        )
    else:
        names, inputs, targets = concatenate(source)
    check_finite(Batch(inputs, targets), "the series")
    order, groups = in_groups(names)
    return SampledTasks(
        inputs[order],
        targets[order],
        groups.select(names_of_split(groups.names, split, "series")),
        1,
        num_shots,
        num_shots if num_queries is None else num_queries,
        seed,
        split or "train",
        drop_small=drop_small,
    )


def tasks_from_function(
    function: Callable[[int], Any],
    *,
    split: str = "train",
    max_examples: int | tuple[int, int] | None = None,
) -> TaskStream:
    """Tasks made by a function.

    Args:
        function: maps a seed, an integer of the task's own, to (support,
            query), each (inputs, targets) or (inputs, targets, weights): the
            same for the same seed. Losses and metrics are means weighted by the
            weights [examples].
        split: each split has its own seeds.
        max_examples: the largest numbers of examples of a support and of a
            query set, or one number for both, if sizes differ: smaller sets
            are filled up with examples of weight 0. None: all tasks have the
            same sizes.

    Raises:
        ConfigError: if an argument makes no sense.
    """
    if not callable(function):
        raise ConfigError(
            "function must be callable: seed -> (support, query). Received: "
            f"{type(function).__name__}"
        )
    if split is None:
        raise ConfigError(f"split must be one of {sampled.SPLITS}.")
    sampled.check_split(split)
    return FunctionTasks(function, split, _sizes(max_examples))


def tasks_from_dataset(
    dataset: tf.data.Dataset,
    *,
    max_examples: int | tuple[int, int] | None = None,
) -> TaskStream:
    """Tasks read from a `tf.data.Dataset`, one after the other.

    At its end it starts over. Unlike in other streams, task i is not fixed: a
    dataset that shuffles gives other tasks each time it is read.

    Args:
        dataset: its elements are ((inputs, targets), (inputs, targets)), the
            support and the query set of a task, maybe with weights as in
            `tasks_from_function`.
        max_examples: as for `tasks_from_function`.

    Raises:
        ConfigError: if it is not a dataset, or an argument makes no sense.
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise ConfigError(
            "dataset must be a tf.data.Dataset of (support, query). Received: "
            f"{type(dataset).__name__}"
        )
    return DatasetTasks(dataset, _sizes(max_examples))


def _sizes(
    max_examples: int | tuple[int, int] | None,
) -> tuple[int, int] | None:
    """The sizes of support and query sets that are filled up."""
    if max_examples is None:
        return None
    sizes = max_examples
    if not isinstance(sizes, list | tuple):
        sizes = sizes, sizes
    if len(sizes) != 2:
        raise ConfigError(
            "max_examples must be one number or two, of the support and of the "
            f"query set. Received: max_examples={max_examples!r}"
        )
    for size in sizes:
        check_whole_number("max_examples", size, least=1)
    return int(sizes[0]), int(sizes[1])


def _is_rows(x: Any, count: int) -> bool:
    """Whether a list of arrays holds an example in each."""
    return isinstance(x, list | tuple) and any(
        getattr(part, "shape", (count,))[:1] != (count,) for part in x
    )


def _classes_in(
    folder: pathlib.Path, split: str | None
) -> tuple[image_files.Classes, list[pathlib.Path]]:
    """The classes of a split, and the image files of all splits."""
    if not folder.is_dir():
        raise DataError(f"{folder} is not a directory.")
    splits = image_files.find_split_folders(folder)
    if splits:
        image_files.check_disjoint(splits)
        if split not in splits:
            raise DataError(
                f"{folder} has folders of splits; choose one: split="
                f"{' or '.join(map(repr, splits))}. Received: split={split!r}"
            )
        chosen = splits[split]
        classes = {k: v for part in splits.values() for k, v in part.items()}
    else:
        classes = image_files.find_classes(folder)
        if len(classes) < 2:
            raise DataError(
                f"{folder} holds one class only ({next(iter(classes))}); there "
                "is nothing to tell it from. Make a folder for each class."
            )
        names = names_of_split(tuple(classes), split, "classes")
        chosen = {name: classes[name] for name in names}
    return chosen, [file for files in classes.values() for file in files]
