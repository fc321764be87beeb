"""Decodes images of any kind to arrays, upright, and arrays to RGB.

An image of more than 8 bits (a PNG or TIFF of 16, a TIFF of floats, an array of
another dtype than uint8) does not say which value is white: a sensor of 12 bits
stores 0 to 4095 in 16. `to_rgb` is told, or takes the smallest of `WHITES`.
"""

import contextlib
import io
import pathlib
import struct
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from maml_tf.errors import DataError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

# White of 8, 10, 12, 14 and 16 bits.
WHITES = (255, 1023, 4095, 16383, 65535)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_SIGNATURE = b"\xff\xd8\xff"
ORIENTATION = 0x0112  # a tag of EXIF
_SIGNED = 2  # a sample format of TIFF
LONG = 4  # the type of a value of 32 bits there; others here have 16

_DAMAGED_EXIF = (
    "its EXIF data is damaged, so it is unknown how the camera was held; save "
    "it without EXIF"
)


@contextlib.contextmanager
def refusing_bombs() -> Iterator[None]:
    """Turns Pillow's warning of a decompression bomb into an error.

    Its other warnings, of oddities in a file's metadata, are left out. Warning
    filters are global to the process: enter it in the thread that starts
    others, not in each of them.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def open_image(
    source: bytes | pathlib.Path, formats: tuple[str, ...]
) -> Image.Image:
    """Reads an image's header; `decode` reads its content.

    Raises:
        DataError: if it is not an image in these formats, or far too large.
    """
    file = io.BytesIO(source) if isinstance(source, bytes) else source
    try:
        return Image.open(file, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise DataError("it has too many pixels to be decoded safely") from e
    except FileNotFoundError as e:
        raise DataError("it is missing") from e
    except Image.UnidentifiedImageError as e:
        *most, last = formats
        names = f"{', '.join(most)} or {last}" if most else last
        raise DataError(f"it is not a {names} image") from e
    except Exception as e:  # Pillow's parsers raise errors of any type.
        raise DataError(f"it cannot be read ({e})") from e


def decode(image: Image.Image) -> None:
    """Decodes an image that `open_image` returned.

    Raises:
        DataError: if its content is damaged.
    """
    try:
        image.load()
    except Exception as e:  # as above
        raise DataError(f"it cannot be decoded ({e})") from e


def read_array(source: bytes | pathlib.Path) -> np.ndarray:
    """An image file's content, upright.

    Returns:
        Of 8 bits uint8, of more uint16, int32 or float32: grey
        [height, width, 1], RGB [..., 3] or RGBA [..., 4].

    Raises:
        DataError: if it is no image of `FORMATS`, is damaged, has several
            frames, or has colours that are unknown.
    """
    with open_image(source, FORMATS) as image:
        if not is_deep_png(source):
            return array_of(image)
        decode(image)  # which finds damage
        content = source if isinstance(source, bytes) else source.read_bytes()
        # Pillow would keep 8 of the 16 bits of colors. TensorFlow, which takes
        # seconds to import, keeps all; preparing other images does without it.
        import tensorflow as tf

        try:
            array = tf.io.decode_png(content, channels=4, dtype=tf.uint16)
        except tf.errors.OpError as e:
            raise DataError("it cannot be decoded") from e
        return turned(array.numpy(), orientation(image.info.get("exif")))


def is_deep_png(source: bytes | pathlib.Path) -> bool:
    """Whether it is a PNG of 16 bits."""
    head = _head(source)
    return head.startswith(PNG_SIGNATURE) and head[24:25] == b"\x10"


def is_deep(source: bytes | pathlib.Path) -> bool:
    """Whether it is an image of more than 8 bits, as far as its header tells.

    Raises:
        DataError: as for `open_image`.
    """
    if _head(source).startswith(JPEG_SIGNATURE):
        return False  # most are; this saves reading their headers
    with open_image(source, FORMATS) as image:
        return is_deep_png(source) or image.mode[:1] in ("I", "F")


def _head(source: bytes | pathlib.Path) -> bytes:
    if isinstance(source, bytes):
        return source[:32]
    try:
        with open(source, "rb") as file:
            return file.read(32)
    except FileNotFoundError as e:
        raise DataError("it is missing") from e
    except OSError as e:
        raise DataError(f"it cannot be read ({e.strerror})") from e


def array_of(image: Image.Image) -> np.ndarray:
    """The content of an opened image, as `read_array` gives it.

    Raises:
        DataError: as for `read_array`.
    """
    _check_samples(image)
    decode(image)
    # The further frames of MPO, of which phones call some JPEG, are previews.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise DataError(f"it has {frames} frames; save the one that is meant")
    array = _values(image)
    # Pillow turns TIFFs by itself.
    exif = None if image.format == "TIFF" else image.info.get("exif")
    return turned(
        array if array.ndim == 3 else array[..., None], orientation(exif)
    )


def _check_samples(image: Image.Image) -> None:
    """Checks that Pillow keeps the meaning of a TIFF's values.

    Raises:
        DataError: if it does not.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    several = image.mode[:1] not in ("I", "F")
    if several and max(tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))) > 8:
        raise DataError(
            "its colours have more than 8 bits, of which 8 would be kept; save "
            "it as a PNG of 16 bits"
        )
    if several and _SIGNED in tags.get(TiffImagePlugin.SAMPLEFORMAT, ()):
        raise DataError("its 8 bits have a sign; save it without")
    darkness = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    if darkness and not several:
        raise DataError(
            "its values count from white (a photometric interpretation of 0); "
            "save it with 0 as black"
        )


def _values(image: Image.Image) -> np.ndarray:
    if image.mode[:1] in ("I", "F"):
        array = np.asarray(image)
        if image.format == "PPM":  # tells its white; Pillow makes it 65535
            return eight_bits(array, 65535)
        return array.astype(array.dtype.newbyteorder("="))
    if image.mode == "CMYK":
        # Pillow's own conversion rounds another way than TensorFlow's.
        light = 255 - np.asarray(image).astype(np.int32)
        return (light[..., :3] * light[..., 3:] // 255).astype(np.uint8)
    mode = "L" if image.mode in ("1", "L") else "RGB"
    if image.has_transparency_data:
        mode = "RGBA"
    try:
        return np.asarray(image.convert(mode))
    except ValueError as e:
        raise DataError(
            f"its colours ({image.mode}) cannot be made RGB; save it as RGB"
        ) from e


def orientation(exif: bytes | None) -> int:
    """How a camera was held: EXIF's number, 1 to 8; 1 if it is not told.

    Args:
        exif: the block of EXIF data, with or without the prefix of JPEG.

    Raises:
        DataError: if it is damaged.
    """
    if not exif:
        return 1
    exif = exif.removeprefix(b"Exif\0\0")
    try:
        order = {b"II": "<", b"MM": ">"}[exif[:2]]
        (first,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, first)
        for i in range(count):
            entry = first + 2 + 12 * i
            tag, kind = struct.unpack_from(f"{order}HHI", exif, entry)[:2]
            if tag == ORIENTATION:
                (value,) = struct.unpack_from(
                    f"{order}{'I' if kind == LONG else 'H'}", exif, entry + 8
                )
                return value if 1 <= value <= 8 else 1
    except (KeyError, struct.error) as e:
        raise DataError(_DAMAGED_EXIF) from e
    return 1


def turned(array: np.ndarray, orientation: int) -> np.ndarray:
    """An image [height, width, ...] as seen when the camera is held upright."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    flips = (orientation - 1) % 4
    if flips in (1, 2):
        array = array[:, ::-1]
    if flips in (2, 3):
        array = array[::-1]
    return array


def check_array(given: Any) -> np.ndarray:
    """A user's array as one image, like those of `read_array`.

    Args:
        given: [height, width], or with 1 (grey), 2 (grey and alpha), 3 (RGB) or
            4 (RGBA) channels; booleans, whole numbers, or floats.

    Raises:
        DataError: if it is not.
    """
    if np.ma.is_masked(given):
        raise DataError("some of its values are masked; fill them in first")
    array = np.asarray(given)
    if array.dtype.kind not in "biuf":
        raise DataError(
            "an image must be a file, bytes, a photograph of Pillow's, or an "
            f"array of numbers. Received: {type(given).__name__}"
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] > 4 or 0 in array.shape:
        raise DataError(
            "an array must be one image, [height, width] or [height, width, "
            f"channels] with 1 to 4 channels. Received: shape {array.shape}"
        )
    if array.shape[-1] == 2:
        array = array[..., [0, 0, 0, 1]]
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * np.uint8(255)
    return array


def largest_value(array: np.ndarray) -> int | None:
    """The largest colour of an image of whole numbers of more than 8 bits."""
    if array.dtype == np.uint8 or array.dtype.kind == "f":
        return None
    return int(array[..., :3].max())


def white_for(largest: int) -> int | None:
    """The smallest of `WHITES` that holds a value, if one does."""
    return next((white for white in WHITES if white >= largest), None)


def to_rgb(array: np.ndarray, white: float | None = None) -> np.ndarray:
    """Makes it RGB of 8 bits; what is transparent becomes white.

    Args:
        array: as from `read_array` or `check_array`.
        white: the value that is white in an image of more than 8 bits; None:
            the smallest of `WHITES` that holds its values, 1 for floats.

    Returns:
        uint8 [height, width, 3].

    Raises:
        DataError: if values are negative, not finite or above white, or floats
            in [0, 1] where white is more.
    """
    if array.dtype != np.uint8:
        array = _eight_bits_of(array, white)
    if array.shape[-1] == 4:
        array = on_white(array)
    return np.broadcast_to(array, (*array.shape[:2], 3))


def _eight_bits_of(array: np.ndarray, white: float | None) -> np.ndarray:
    colors = array[..., :3]
    least, largest = colors.min(), colors.max()
    if not (np.isfinite(least) and np.isfinite(largest) and least >= 0):
        raise DataError(
            "its values must be finite and not negative; they are from "
            f"{least} to {largest}"
        )
    floating = array.dtype.kind == "f"
    if white is None:
        white = 1 if floating else white_for(largest)
    if floating and white is not None and 0 < largest <= 1 < white:
        raise DataError(
            f"its values are floats up to {largest:g}, but white is {white:g}; "
            "multiply them by that, if 1 is white"
        )
    if white is None or largest > white:
        limit = "65535" if white is None else f"white={white:g}"
        raise DataError(
            f"its values go up to {largest:g}, above {limit}"
            + (" (of floats)" if floating else "")
            + "; say by white= which value is white"
        )
    scaled = eight_bits(colors, white)
    if array.shape[-1] < 4:
        return scaled
    alpha = array[..., 3:]
    opaque = 1 if floating else white_for(alpha.max())
    if opaque is None or not 0 <= alpha.min() <= alpha.max() <= opaque:
        raise DataError("its alpha channel holds values that mean nothing")
    alpha = eight_bits(alpha, opaque)
    return np.concatenate([scaled, alpha], axis=-1)


def eight_bits(array: np.ndarray, white: float) -> np.ndarray:
    """Values 0 to white as uint8 0 to 255, rounded."""
    scaled = array.astype(np.float64) * (255 / white)
    return np.floor(scaled + 0.5).astype(np.uint8)


def on_white(array: np.ndarray) -> np.ndarray:
    """Lays RGBA, uint8 [..., 4], on white: uint8 [..., 3]."""
    color, alpha = np.split(array.astype(np.int32), [3], axis=-1)
    mixed = color * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)
