"""What is inside an export besides its signatures: export.json, and checks."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import keras

from maml_tf.datasets.image_preparation import (
    SCALE,
    ImagePreparation,
    checked_size,
)
from maml_tf.errors import ConfigError
from maml_tf.export.image_bytes import FORMATS
from maml_tf.version import __version__

FORMAT = 1
FILE = "export.json"


def write_description(directory: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes export.json: format, version, and the content."""
    whole = {"format": FORMAT, "maml_tf": __version__, **content}
    text = json.dumps(whole, indent=2, ensure_ascii=False)
    (directory / FILE).write_text(f"{text}\n", encoding="utf-8")


def check_images(images: ImagePreparation, inputs: Any) -> None:
    """Checks that a model takes the images that a preparation makes.

    Raises:
        ConfigError: if not.
    """
    if not isinstance(images, ImagePreparation):
        raise ConfigError(
            "images must be a maml_tf.ImagePreparation, such as `prepare` of "
            f"tasks_from_folder's tasks. Received: {type(images).__name__}"
        )
    shape = (*checked_size(images.size), images.channels)
    specs = keras.tree.flatten(inputs)
    taken = [tuple(spec.shape[1:]) for spec in specs]
    if taken != [shape] or not specs[0].dtype.is_floating:
        described = [f"{s.dtype.name} {tuple(s.shape[1:])}" for s in specs]
        raise ConfigError(
            f"images makes float inputs of shape {shape}, but the model takes "
            f"{', '.join(described)}."
        )


def checked_names(names: Sequence[str], num_ways: int | None) -> list[str]:
    """Names of classes, one for each.

    Args:
        names: the names.
        num_ways: number of classes; None if there are no fixed classes.

    Raises:
        ConfigError: if they are not.
    """
    if num_ways is None:
        raise ConfigError(
            "class_names are for classifiers with an output for each class. "
            "Leave them out."
        )
    found = [names] if isinstance(names, str) else list(names)
    if (
        not all(isinstance(name, str) and name for name in found)
        or len(set(found)) != num_ways
        or len(found) != num_ways
    ):
        raise ConfigError(
            f"class_names must be {num_ways} different names, in the order of "
            f"the class numbers. Received: class_names={names!r}"
        )
    return [str(name) for name in found]


def description(
    kind: str,
    images: ImagePreparation | None,
    class_names: Sequence[str] | None,
) -> dict[str, Any]:
    """What a client has to know of an export, for its JSON file."""
    found: dict[str, Any] = {"kind": kind, "class_names": class_names}
    found["images"] = None
    if images is not None:
        height, width = checked_size(images.size)
        found["images"] = {
            "formats": FORMATS,
            "orientation": "turned upright by EXIF",
            "transparent": "white",
            "white": images.white,
            "height": height,
            "width": width,
            "resize": "Lanczos",
            "channels": images.channels,
            "scale": SCALE,
        }
    return found
