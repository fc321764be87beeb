"""The data sets of images that the command line knows by name."""

import difflib
import functools
import pathlib
from collections.abc import Callable, Collection

from maml_tf.datasets.class_splits import SPLITS
from maml_tf.datasets.glyphs.images import glyphs
from maml_tf.datasets.packed_images import PackedImages
from maml_tf.errors import DataError
from maml_tf.experiments.image_source import ImageSource

_MINIIMAGENET = {
    "meta_batch_size": 4,
    "alpha": 0.01,
    "num_steps": 5,
    "num_queries": 15,
    "num_filters": 32,
    "max_pool": True,
    "clip": 10.0,
}


def open_packed(data_dir: pathlib.Path, name: str, hint: str) -> PackedImages:
    """Opens a packed data set with the splits of an experiment.

    Args:
        data_dir: holds the packed data sets, each in a directory of its name.
        name: of the data set.
        hint: how to prepare it.

    Raises:
        DataError: if it was not prepared, is damaged or lacks a split.
    """
    try:
        images = PackedImages.open(data_dir / name, hint=hint)
    except DataError as e:
        raise DataError(str(e), "datasource") from e
    for split in SPLITS:
        if split not in images.splits:
            raise DataError(
                f"{data_dir / name} has no {split} split; an experiment needs "
                f"train, validation and test. {hint}",
                "datasource",
            )
    return images


def _packed(name: str, command: str) -> Callable[[pathlib.Path], PackedImages]:
    return functools.partial(
        open_packed, name=name, hint=f"Prepare it with: {command}"
    )


IMAGE_SOURCES = (
    # Ours: less than two minutes on two cores.
    ImageSource(
        "glyphs",
        lambda data_dir: glyphs(),
        settings={
            "metatrain_iterations": 3000,
            "meta_batch_size": 8,
            "num_filters": 32,
        },
        letters=True,
    ),
    ImageSource(
        "omniglot",
        _packed("omniglot", "python -m maml_tf data omniglot"),
        many_ways={"meta_batch_size": 16, "alpha": 0.1, "num_steps": 5},
        letters=True,
        accuracies={
            ("maml, no conv", 5, 1): (89.7, 1.1),
            ("maml, no conv", 5, 5): (97.5, 0.6),
            ("maml", 5, 1): (98.7, 0.4),
            ("maml", 5, 5): (99.9, 0.1),
            ("maml", 20, 1): (95.8, 0.3),
            ("maml", 20, 5): (98.9, 0.2),
        },
        published_updates=lambda num_ways: 3 if num_ways == 5 else 5,
    ),
    ImageSource(
        "miniimagenet",
        _packed(
            "miniimagenet",
            "python -m maml_tf data miniimagenet --source=<your copy>",
        ),
        settings=_MINIIMAGENET,
        accuracies={
            ("maml", 5, 1): (48.70, 1.84),
            ("maml", 5, 5): (63.11, 0.92),
            ("first-order", 5, 1): (48.07, 1.75),
            ("first-order", 5, 5): (63.15, 0.91),
        },
    ),
)


def own_images(name: str, known: Collection[str]) -> ImageSource:
    """A user's own packed data set, with mini-ImageNet's settings.

    Args:
        name: of the data set.
        known: names of the other data sources, to suggest.
    """

    command = (
        "python -m maml_tf data image_folder --source=<directory> "
        f"--name={name}"
    )
    hint = (
        f"Prepare it with: {command}; or name another datasource: "
        f"{', '.join(known)}."
    )
    for meant in difflib.get_close_matches(name, known, 1):
        hint = f"Did you mean datasource={meant}? {hint}"
    return ImageSource(
        name,
        functools.partial(open_packed, name=name, hint=hint),
        settings=_MINIIMAGENET,
        like="miniimagenet",
    )
