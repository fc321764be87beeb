"""Imports Omniglot: verifies and packs every drawing.

The source is the two archives published by Brenden Lake (16 MB), or their
unpacked content.
"""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image
from rich.console import Console

from maml_tf.datasets import class_splits, decoding, image_files
from maml_tf.datasets.archives import SmallFilesArchive, read_small
from maml_tf.datasets.download import Download
from maml_tf.datasets.packing import packing, verify
from maml_tf.errors import DataError
from maml_tf.progress import TrainingProgress

URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
ARCHIVES = (
    Download(
        "images_background.zip", 9464212, "68d2efa1b9178cc56df9314c21c6e718"
    ),
    Download(
        "images_evaluation.zip", 6462886, "6b91aef0f799c5bb55b94e3f2daec811"
    ),
)
FOLDERS = ("images_background", "images_evaluation")

SPLITS = class_splits.DIRECTORY / "omniglot"
SPLIT_COUNTS = {"train": 1100, "validation": 100, "test": 423}
DRAWINGS = 20  # per character
DRAWN_SIZE = (105, 105)
SIZE = (28, 28)

# Class name -> file name -> a function that reads the file
Drawings = dict[str, dict[str, Callable[[], bytes]]]


def nearest(drawing: Image.Image) -> np.ndarray:
    """Ink of a drawing, resized in effect as by the original code.

    That asks Pillow for Lanczos, but Pillow always resizes 1-bit images by the
    nearest pixel: the result is black and white.
    """
    paper = np.asarray(drawing.resize(SIZE, Image.Resampling.NEAREST))
    return np.where(paper, np.uint8(0), np.uint8(255))


def smooth(drawing: Image.Image) -> np.ndarray:
    """Ink of a drawing, resized with Lanczos to shades of grey."""
    grey = drawing.convert("L").resize(SIZE, Image.Resampling.LANCZOS)
    return 255 - np.asarray(grey)


RESIZES = {"nearest": nearest, "smooth": smooth}
RESIZES_IN_WORDS = {
    "nearest": "nearest: black and white, as the original code's images",
    "smooth": "smooth: Lanczos, in shades of grey",
}


def import_omniglot(
    source: pathlib.Path,
    output_dir: pathlib.Path,
    splits: dict[str, list[str]],
    resize: str,
    console: Console,
) -> None:
    """Verifies and packs Omniglot.

    Args:
        source: directory of the two archives or of their content.
        output_dir: where to write the packed data set.
        splits: the classes, "Alphabet/characterNN", of each split. Exactly
            these must exist.
        resize: key of RESIZES.
        console: shows progress.

    Raises:
        DataError: if it is not Omniglot, complete and undamaged. Then nothing
            is written.
    """
    names = sorted(name for split in splits.values() for name in split)
    with _drawings(source) as drawings, decoding.refusing_bombs():
        _check_complete(source, drawings, names)
        progress = TrainingProgress(
            console, "drawings", 0, len(names) * DRAWINGS
        )
        with (
            packing(
                output_dir,
                name="omniglot",
                about={
                    "source": "Omniglot, (c) 2015 Brenden Lake, MIT license",
                    "resize": RESIZES_IN_WORDS[resize],
                    "values": "0 paper, 255 ink",
                },
                image_shape=(*SIZE, 1),
                arrays={"images.npy": [(name, DRAWINGS) for name in names]},
                splits=splits,
            ) as writers,
            progress,
        ):
            for i, name in enumerate(names, 1):
                for file, read in sorted(drawings[name].items()):
                    try:
                        drawing = _decode(read())
                    except DataError as e:
                        raise DataError(
                            f"{source}: {name}/{file} is not a drawing of "
                            f"Omniglot: {str(e).removesuffix('.')}."
                        ) from e
                    ink = RESIZES[resize](drawing)
                    writers["images.npy"].append(ink[..., np.newaxis])
                progress(i * DRAWINGS, {})


def is_ready(directory: pathlib.Path, resize: str) -> bool:
    """Whether a directory holds Omniglot, complete and resized that way."""
    try:
        found = verify(directory)
    except DataError:
        return False
    expected = class_splits.read_splits(SPLITS)
    names = {name: list(s.names) for name, s in found.splits.items()}
    return (
        names == expected
        and found.about.get("resize") == RESIZES_IN_WORDS[resize]
    )


@contextlib.contextmanager
def _drawings(source: pathlib.Path) -> Iterator[Drawings]:
    """Finds the drawings in two archives, two folders or one."""
    if not source.is_dir():
        raise DataError(f"{source} is not a directory.")
    archives = [source / a.name for a in ARCHIVES]
    folders = [source / folder for folder in FOLDERS]
    drawings: Drawings = {}
    with contextlib.ExitStack() as stack:
        if any(path.exists() for path in archives):
            for path in _both(archives):
                archive = stack.enter_context(SmallFilesArchive(path))
                for name in archive.names:
                    parts = name.split("/")
                    if parts[0] in FOLDERS:
                        del parts[0]
                    read = functools.partial(archive.read, name)
                    _add(drawings, path, parts, read)
        elif any(path.exists() for path in folders):
            for path in _both(folders):
                _add_folder(drawings, path)
        else:
            _add_folder(drawings, source)
        yield drawings


def _both(paths: list[pathlib.Path]) -> list[pathlib.Path]:
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} is missing; Omniglot needs both parts.")
    return paths


def _add_folder(drawings: Drawings, folder: pathlib.Path) -> None:
    for alphabet in _listed(folder):
        for character in _listed(alphabet):
            for file in _listed(character):
                parts = [alphabet.name, character.name, file.name]
                read = functools.partial(read_small, file)
                _add(drawings, folder, parts, read)


def _listed(folder: pathlib.Path) -> list[pathlib.Path]:
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; expected are folders of alphabets, in "
            "them folders of characters, in them drawings."
        )
    return sorted(
        p for p in folder.iterdir() if not image_files.is_clutter(p.name)
    )


def _add(
    drawings: Drawings,
    origin: pathlib.Path,
    parts: list[str],
    read: Callable[[], bytes],
) -> None:
    if len(parts) != 3:
        raise DataError(
            f"{origin} holds {'/'.join(parts)}; expected are files "
            "Alphabet/characterNN/drawing.png."
        )
    files = drawings.setdefault("/".join(parts[:2]), {})
    if parts[2] in files:
        raise DataError(f"{origin} holds {'/'.join(parts)} a second time.")
    files[parts[2]] = read


def _check_complete(
    source: pathlib.Path, drawings: Drawings, names: list[str]
) -> None:
    """Compares characters and numbers of drawings with what is expected."""
    unexpected = sorted(set(drawings) - set(names))
    missing = sorted(set(names) - set(drawings))
    if unexpected:
        raise DataError(
            f"{source} holds {unexpected[0]}, which is no character of "
            f"Omniglot ({len(unexpected)} such)."
        )
    if not drawings:
        raise DataError(
            f"{source} holds no drawings; expected are "
            f"{' and '.join(FOLDERS)}, as zip archives or unpacked."
        )
    if missing:
        raise DataError(
            f"{source} lacks {missing[0]} ({len(missing)} of {len(names)} "
            "characters are missing)."
        )
    for name in names:
        if len(drawings[name]) != DRAWINGS:
            raise DataError(
                f"{source}: {name} has {len(drawings[name])} drawings; "
                f"expected are {DRAWINGS}."
            )


def _decode(content: bytes) -> Image.Image:
    drawing = decoding.open_image(content, formats=("PNG",))
    if drawing.size != DRAWN_SIZE or drawing.mode != "1":
        raise DataError(
            f"it is {drawing.size[0]}x{drawing.size[1]} of mode "
            f"{drawing.mode}; expected is 105x105 of mode 1 (black and white)"
        )
    decoding.decode(drawing)
    return drawing
