"""Which classes are for training, validation and test."""

import hashlib
import pathlib
from collections.abc import Collection, Iterable

from maml_tf.errors import DataError

SPLITS = ("train", "validation", "test")

# Published splits, one directory for each data set.
DIRECTORY = pathlib.Path(__file__).resolve().parent / "splits"

_SEED = 1


def split_names(
    names: Iterable[str], counts: dict[str, int]
) -> dict[str, list[str]]:
    """Splits names at random, but the same way everywhere and always.

    The names are ordered by the SHA-256 of "1:<name>"; the first split takes
    the first of them, and so on. The result depends neither on the order of a
    directory listing nor on a library's random generator.

    Args:
        names: all names, as many as the sum of `counts`.
        counts: number of names in each split.

    Returns:
        The sorted names of each split.
    """
    order = sorted(
        names,
        key=lambda name: hashlib.sha256(f"{_SEED}:{name}".encode()).digest(),
    )
    if len(order) != sum(counts.values()):
        raise ValueError(f"{len(order)} names cannot be split as {counts}")
    splits = {}
    for split, count in counts.items():
        splits[split], order = sorted(order[:count]), order[count:]
    return splits


def standard_splits(names: Collection[str], of: str) -> dict[str, list[str]]:
    """Splits names by `split_names`: 64, 16 and 20 %, at least one each.

    Args:
        names: all names.
        of: what they are the names of, for messages.

    Raises:
        DataError: if there are fewer than three.
    """
    num = len(names)
    if num < 3:
        raise DataError(
            f"{of} holds {num} classes; at least 3 are needed to split "
            "them. Or make folders train, val and test yourself."
        )
    validation, test = max(1, num * 16 // 100), max(1, num * 20 // 100)
    counts = {
        "train": num - validation - test,
        "validation": validation,
        "test": test,
    }
    return split_names(names, counts)


def write_splits(directory: pathlib.Path, splits: dict[str, list[str]]) -> None:
    """Writes <split>.txt files, one name per line."""
    directory.mkdir(parents=True, exist_ok=True)
    for split, names in splits.items():
        text = "".join(f"{name}\n" for name in names)
        (directory / f"{split}.txt").write_text(text, encoding="utf-8")


def read_splits(directory: pathlib.Path) -> dict[str, list[str]]:
    """Reads what `write_splits` wrote."""
    return {
        split: (directory / f"{split}.txt").read_text("utf-8").splitlines()
        for split in SPLITS
    }
