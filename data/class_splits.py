"""Which classes are for training, validation and test."""

import pathlib

from maml_tf.tasks import SPLITS

DIRECTORY = pathlib.Path(__file__).resolve().parent / "splits"


def write_splits(directory: pathlib.Path, splits: dict[str, list[str]]) -> None:
    """Writes <split>.txt files, a name a line."""
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
