"""`ImagePreparation` as a graph: from the bytes of JPEG and PNG files.

It gives the pixels that Python gives: libjpeg's exact transform, EXIF's
orientation, and Pillow's Lanczos filter, which works in whole numbers,
horizontally and then vertically.
"""

from collections.abc import Callable

import tensorflow as tf

from maml_tf.datasets.decoding import (
    JPEG_SIGNATURE,
    LONG,
    ORIENTATION,
    PNG_SIGNATURE,
    WHITES,
)
from maml_tf.datasets.image_preparation import (
    GREY,
    SCALE,
    ImagePreparation,
    checked_size,
)
from maml_tf.export.checks import require

FORMATS = ("JPEG", "PNG")

_AT_ONCE = 2  # images: a photograph of 12 million pixels takes 600 MB
_SHIFT = 2.0**22  # of Pillow's fixed-point weights
_LOBES = 3  # of Lanczos


def prepared(
    contents: tf.Tensor, preparation: ImagePreparation, dtype: tf.DType
) -> tf.Tensor:
    """Images [n, height, width, channels] of files' contents, strings [n].

    The graph fails if one is not a JPEG or PNG file, or damaged.
    """
    shape = [*checked_size(preparation.size), preparation.channels]

    def one(content: tf.Tensor) -> tf.Tensor:
        pixels = _pixels(content, preparation)
        scaled = tf.cast(pixels, tf.float32) * tf.constant(SCALE, tf.float32)
        return tf.ensure_shape(tf.cast(scaled, dtype), shape)

    return tf.map_fn(
        one,
        contents,
        fn_output_signature=tf.TensorSpec(shape, dtype),
        parallel_iterations=_AT_ONCE,
    )


def _pixels(content: tf.Tensor, preparation: ImagePreparation) -> tf.Tensor:
    """Whole numbers 0 to 255, int32 [height, width, channels]."""
    is_jpeg = tf.strings.substr(content, 0, 3) == JPEG_SIGNATURE
    is_png = (tf.strings.substr(content, 0, 8) == PNG_SIGNATURE) & (
        tf.strings.length(content) > 32
    )
    known = require(
        is_jpeg | is_png,
        "Image bytes must be those of a JPEG or PNG file",
        tf.strings.length(content),
    )
    with tf.control_dependencies([known]):
        content = tf.identity(content)
    data = tf.cast(tf.io.decode_raw(content, tf.uint8), tf.int64)
    rgb, start, end = tf.cond(
        is_jpeg,
        lambda: (_of_jpeg(content), *_exif_of_jpeg(content, data)),
        lambda: (
            _of_png(content, preparation.white),
            *_exif_of_png(content, data),
        ),
    )
    image = _turned(rgb, _orientation(data[start:end]))
    height, width = checked_size(preparation.size)
    image = _squeezed(tf.transpose(image, [1, 0, 2]), width)
    image = _squeezed(tf.transpose(image, [1, 0, 2]), height)
    if preparation.channels == 3:
        return image
    grey = tf.reduce_sum(image * tf.constant(GREY), axis=-1, keepdims=True)
    return (grey + 500) // 1000


def _of_jpeg(content: tf.Tensor) -> tf.Tensor:
    return tf.cast(
        tf.io.decode_jpeg(
            content,
            channels=3,
            fancy_upscaling=True,
            dct_method="INTEGER_ACCURATE",
        ),
        tf.int32,
    )


def _of_png(content: tf.Tensor, white: float | None) -> tf.Tensor:
    """RGB, on white; 16 bits become 8."""

    def deep() -> tf.Tensor:
        array = tf.io.decode_png(content, channels=4, dtype=tf.uint16)
        array = tf.cast(array, tf.float64)
        colors, alpha = array[..., :3], array[..., 3:]
        largest = tf.reduce_max(colors)
        top = _smallest_white(largest)
        if white is not None:
            top = tf.constant(white, tf.float64)
        fits = require(largest <= top, f"Values go up to more than {white}")
        with tf.control_dependencies([fits]):
            colors = _eight_bits(colors, top)
        alpha = _eight_bits(alpha, _smallest_white(tf.reduce_max(alpha)))
        return tf.concat([colors, alpha], axis=-1)

    rgba = tf.cond(
        tf.strings.substr(content, 24, 1) == b"\x10",
        deep,
        lambda: tf.cast(tf.io.decode_png(content, channels=4), tf.int32),
    )
    color, alpha = rgba[..., :3], rgba[..., 3:]
    # TensorFlow calls opaque what it fills in below 8 bits: 1, 3 or 15.
    depth = tf.io.decode_raw(tf.strings.substr(content, 24, 1), tf.uint8)[0]
    filled_in = 2 ** tf.cast(tf.minimum(depth, 8), tf.int32) - 1
    opaque = tf.reduce_all(alpha == filled_in)
    alpha = tf.where(opaque, 255 * tf.ones_like(alpha), alpha)
    return (color * alpha + 255 * (255 - alpha) + 127) // 255


def _smallest_white(largest: tf.Tensor) -> tf.Tensor:
    whites = tf.constant(WHITES, tf.float64)
    return tf.reduce_min(tf.where(whites >= largest, whites, whites[-1]))


def _eight_bits(array: tf.Tensor, white: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.floor(array * (255 / white) + 0.5), tf.int32)


def _exif_of_jpeg(
    content: tf.Tensor, data: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the EXIF data lies: its start and end, equal if there is none.

    Walks the segments: 0xFF, a marker, and but for a few markers the length of
    what follows, which counts its own two bytes.
    """
    size = tf.size(data, tf.int64)
    two = tf.constant(2, tf.int64)

    def body(position, start, end, ends):
        marker = data[position + 1]
        bare = ((marker >= 0xD0) & (marker <= 0xD8)) | (marker == 0x01)
        length = data[position + 2] * 256 + data[position + 3]
        found = (marker == 0xE1) & (
            tf.strings.substr(content, position + 4, 6) == b"Exif\0\0"
        )
        after = tf.minimum(position + 2 + length, size)
        ends = (
            found
            | (data[position] != 0xFF)
            | (marker == 0xDA)  # the image begins
            | (marker == 0xD9)  # the file ends
        )
        step = tf.where(bare, two, two + length)
        step = tf.where(marker == 0xFF, two - 1, step)  # filled up
        return (
            position + step,
            tf.where(found, tf.minimum(position + 10, after), start),
            tf.where(found, after, end),
            ends,
        )

    return _walk(body, 2, size - 4)


def _exif_of_png(
    content: tf.Tensor, data: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The same; chunks are a length, a name, the data and a checksum."""
    size = tf.size(data, tf.int64)

    def body(position, start, end, ends):
        del ends
        length = _number(data[position : position + 4])
        name = tf.strings.substr(content, position + 4, 4)
        still = require(name != b"acTL", "An image has several frames", name)
        with tf.control_dependencies([still]):
            found = name == b"eXIf"
        return (
            position + 12 + length,
            tf.where(found, position + 8, start),
            tf.where(found, tf.minimum(position + 8 + length, size), end),
            name == b"IEND",
        )

    return _walk(body, 8, size - 8)


def _walk(
    body: Callable, first: int, last: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    nowhere = tf.constant(0, tf.int64)
    _, start, end, _ = tf.while_loop(
        lambda position, start, end, ends: ~ends & (position <= last),
        body,
        (tf.constant(first, tf.int64), nowhere, nowhere, False),
    )
    return start, end


def _number(data: tf.Tensor) -> tf.Tensor:
    """Bytes, the highest first, as int64."""
    powers = 256 ** tf.range(tf.size(data, tf.int64), dtype=tf.int64)
    return tf.reduce_sum(data * powers[::-1])


def _orientation(exif: tf.Tensor) -> tf.Tensor:
    """`decoding.orientation` of a block without prefix."""

    def number(offset, size: int) -> tf.Tensor:
        data = exif[offset : offset + size]
        whole = require(
            tf.size(data) == size, "The EXIF data of an image is damaged"
        )
        with tf.control_dependencies([whole]):
            data = tf.identity(data)
        return _number(tf.where(little, data[::-1], data))

    def parse() -> tf.Tensor:
        first = number(4, 4)
        count = number(first, 2)

        def body(i, found):
            entry = first + 2 + 12 * i
            tag, kind = number(entry, 2), number(entry + 2, 2)
            number(entry + 4, 4)
            value = tf.cond(
                tag == ORIENTATION,
                lambda: tf.cond(
                    kind == LONG,
                    lambda: number(entry + 8, 4),
                    lambda: number(entry + 8, 2),
                ),
                lambda: found,
            )
            return i + 1, value

        unknown = tf.constant(-1, tf.int64)
        _, found = tf.while_loop(
            lambda i, found: (i < count) & (found == unknown),
            body,
            (tf.constant(0, tf.int64), unknown),
        )
        return tf.where((found >= 1) & (found <= 8), found, upright)

    upright = tf.constant(1, tf.int64)
    mark = _number(exif[:2])
    little = mark == 0x4949
    empty = tf.size(exif) == 0
    known = require(
        empty | little | (mark == 0x4D4D),
        "The EXIF data of an image is damaged",
    )
    with tf.control_dependencies([known]):
        return tf.cond(empty, lambda: upright, parse)


def _turned(image: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """`decoding.turned`."""
    image = tf.cond(
        orientation >= 5, lambda: tf.transpose(image, [1, 0, 2]), lambda: image
    )
    flips = (orientation - 1) % 4
    image = tf.cond(
        (flips == 1) | (flips == 2), lambda: image[:, ::-1], lambda: image
    )
    return tf.cond(flips >= 2, lambda: image[::-1], lambda: image)


def _squeezed(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes the first axis as Pillow does.

    Args:
        image: int32 [length, others, channels], 0 to 255.
        size: the new length.

    Returns:
        int32 [size, others, channels].
    """
    shape = tf.shape(image)
    weights = _lanczos(shape[0], size)
    flat = tf.cast(tf.reshape(image, [shape[0], -1]), tf.float64)
    # Whole numbers below 2**53: the sums are exact in any order.
    sums = tf.sparse.sparse_dense_matmul(tf.sparse.from_dense(weights), flat)
    rounded = tf.floor((sums + _SHIFT / 2) / _SHIFT)
    pixels = tf.cast(tf.clip_by_value(rounded, 0, 255), tf.int32)
    return tf.reshape(pixels, [size, shape[1], 3])


def _lanczos(length: tf.Tensor, size: int) -> tf.Tensor:
    """Weights of Pillow's filter, whole numbers as float64 [size, length]."""
    scale = tf.cast(length, tf.float64) / size
    stretch = tf.maximum(scale, 1)
    support = _LOBES * stretch
    centers = (tf.range(size, dtype=tf.float64) + 0.5)[:, tf.newaxis] * scale
    places = tf.range(tf.cast(length, tf.float64), dtype=tf.float64)
    # Pillow truncates these to whole numbers.
    first = tf.floor(tf.maximum(centers - support + 0.5, 0))
    last = tf.floor(centers + support + 0.5)
    x = (places - centers + 0.5) * (1 / stretch)
    weights = tf.where(
        (places >= first) & (places < last) & (x >= -_LOBES) & (x < _LOBES),
        _sinc(x) * _sinc(x / _LOBES),
        tf.zeros_like(x),
    )
    weights /= tf.reduce_sum(weights, axis=1, keepdims=True)
    return tf.sign(weights) * tf.floor(tf.abs(weights) * _SHIFT + 0.5)


def _sinc(x: tf.Tensor) -> tf.Tensor:
    x *= 3.141592653589793
    one = tf.ones_like(x)
    return tf.where(x == 0, one, tf.sin(x) / tf.where(x == 0, one, x))
