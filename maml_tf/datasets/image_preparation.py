"""What training sees of an image, wherever the image comes from."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from maml_tf.datasets import decoding
from maml_tf.errors import (
    ConfigError,
    DataError,
    check_whole_number,
    reason,
)

SCALE = 1 / 255  # of the network's inputs
GREY = (299, 587, 114)  # of red, green, blue in thousandths: ITU-R BT.601

_LANCZOS = Image.Resampling.LANCZOS
_LARGEST = 2**14  # pixels of a side


@dataclasses.dataclass(frozen=True)
class ImagePreparation:
    """Makes of an image what training saw of it.

    The image is turned upright as EXIF says, becomes RGB (what is transparent
    becomes white), is squeezed to `size` by Lanczos and scaled to [0, 1].

    `tasks_from_folder` makes one, `tasks.prepare`, and `Learner.export` puts it
    into a SavedModel.

    Attributes:
        size: height and width, or one number for both.
        channels: 3, or 1 for shades of grey.
        white: the value that is white in images of more than 8 bits; None: the
            smallest of 255, 1023, 4095, 16383 and 65535 that holds all values
            of an image, and 1 of floats.

    Raises:
        ConfigError: if an argument makes no sense.
    """

    size: int | Sequence[int]
    channels: int = 3
    white: float | None = None

    def __post_init__(self):
        object.__setattr__(self, "size", checked_size(self.size))
        if self.channels not in (1, 3):
            raise ConfigError(
                f"channels must be 1 or 3. Received: {self.channels}"
            )
        white = self.white
        number = isinstance(white, int | float | np.number)
        if white is not None and not (
            number and not isinstance(white, bool) and 0 < white < float("inf")
        ):
            raise ConfigError(
                "white must be a positive number or None. Received: "
                f"white={white!r}"
            )

    def __call__(self, image: Any) -> np.ndarray:
        """Prepares one image.

        Args:
            image: a file's path, its content as bytes or an open file; an image
                of Pillow's; or an array [height, width] or [height, width,
                channels], of whole numbers, or of floats in [0, 1].

        Returns:
            float32 [height, width, channels] in [0, 1]. A network takes a
            batch: `x[None]`, or `np.stack([...])`.

        Raises:
            DataError: if it is not an image, or damaged.
        """
        with decoding.refusing_bombs():
            try:
                pixels = self.pixels(image)
            except DataError as e:
                name = (
                    os.fspath(image)
                    if isinstance(image, str | os.PathLike)
                    else "The image"
                )
                raise DataError(f"{name} cannot be used: {e}.") from e
        return pixels.astype(np.float32) * np.float32(SCALE)

    def pixels(self, image: Any) -> np.ndarray:
        """The same as uint8, before it is scaled.

        Call it within `decoding.refusing_bombs`.
        """
        rgb = decoding.to_rgb(_array_of(image), self.white)
        height, width = checked_size(self.size)
        # In this order, which Pillow itself chooses by sizes and version.
        narrow = Image.fromarray(rgb).resize((width, rgb.shape[0]), _LANCZOS)
        resized = np.asarray(narrow.resize((width, height), _LANCZOS))
        if self.channels == 3:
            return resized
        grey = (resized.astype(np.int32) @ np.array(GREY) + 500) // 1000
        return grey.astype(np.uint8)[..., None]


def checked_size(size: Any) -> tuple[int, int]:
    """Height and width, given as one number or two.

    Raises:
        ConfigError: if it is neither.
    """
    several = isinstance(size, tuple | list) or (
        isinstance(size, np.ndarray) and size.ndim > 0
    )
    pair = list(size) if several else [size, size]
    if isinstance(size, str | bytes) or len(pair) != 2:
        raise ConfigError(
            "size must be a whole number, or a pair of them: height and "
            f"width. Received: size={size!r}"
        )
    for side in pair:
        check_whole_number("size", side, least=1)
    height, width = map(int, pair)
    if max(height, width) > _LARGEST:
        raise ConfigError(
            f"size must be at most {_LARGEST} pixels. Received: size={size!r}"
        )
    return height, width


def _array_of(image: Any) -> np.ndarray:
    if isinstance(image, Image.Image):
        return decoding.array_of(image)
    if isinstance(image, str | os.PathLike):
        if os.path.exists(image) and not os.path.isfile(image):
            raise DataError("it is not a file")
        return decoding.read_array(pathlib.Path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return decoding.read_array(bytes(image))
    if hasattr(image, "read"):
        try:
            content = image.read()
        except (OSError, ValueError) as e:  # ValueError: it is closed
            raise DataError(f"it cannot be read ({reason(e)})") from e
        if not isinstance(content, bytes):
            raise DataError("it must be opened in binary mode, by 'rb'")
        return decoding.read_array(content)
    return decoding.check_array(image)
