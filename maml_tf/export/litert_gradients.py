"""Gradients that LiteRT has no operation for, by operations that it has.

Each is the same function as TensorFlow's, bit by bit except for the order of
sums: the gradient of a maximum, for example, is a comparison and a selection.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

# From an operation's attributes, a function of its inputs.
_Formulation = Callable[[Any], Callable[..., tf.Tensor]]


def use_available_operations(model: saved_model_pb2.SavedModel) -> None:
    """Replaces the gradients below, in place, wherever they are."""
    library = model.meta_graphs[0].graph_def.library
    for function in list(library.function):
        renamed = {}
        for node in function.node_def:
            if node.op not in _FORMULATIONS:
                continue
            output, dtypes, formulate = _FORMULATIONS[node.op]
            attributes = _with_defaults(node)
            if not _is_plain(node.op, attributes):
                continue
            dtype = tf.as_dtype(attributes["T"].type)
            formulation = tf.function(formulate(attributes), autograph=False)
            traced = formulation.get_concrete_function(
                *(tf.TensorSpec(None, other or dtype) for other in dtypes)
            )
            definition = library.function.add()
            definition.CopyFrom(traced.function_def)
            _call(node, definition.signature)
            renamed[f"{node.name}:{output}:0"] = f"{node.name}:output:0"
        for node in function.node_def:
            node.input[:] = [renamed.get(name, name) for name in node.input]
        for name, source in function.ret.items():
            function.ret[name] = renamed.get(source, source)


def _with_defaults(node: Any) -> dict[str, Any]:
    """The attributes of a `NodeDef`; those left out have their defaults."""
    nothing = type(node)().attr["nothing"]
    defaults = {
        x.name: x.default_value for x in op_def_registry.get(node.op).attr
    }
    given = dict(node.attr)
    return dict.fromkeys(("dilations", "_output_shapes"), nothing) | (
        defaults | given
    )


def _is_plain(operation: str, attributes: dict[str, Any]) -> bool:
    """Whether a formulation below covers these attributes."""
    if "strides" not in attributes:
        return True
    dilated = any(x != 1 for x in attributes["dilations"].list.i)
    plain = (
        attributes["data_format"].s == b"NHWC"
        and attributes["padding"].s in (b"SAME", b"VALID")
        and not dilated
    )
    if plain and operation.endswith("BackpropFilter"):
        shapes = attributes["_output_shapes"].list.shape
        return len(shapes) == 1 and all(x.size > 0 for x in shapes[0].dim)
    return plain


def _call(node: Any, signature: Any) -> None:
    """Turns a `NodeDef` into a call of a function of the same inputs."""
    node.op = "PartitionedCall"
    node.attr.clear()
    node.attr["Tin"].list.type.extend(x.type for x in signature.input_arg)
    node.attr["Tout"].list.type.extend(x.type for x in signature.output_arg)
    node.attr["f"].func.name = signature.name


def _relu(attributes: Any) -> Callable[..., tf.Tensor]:
    del attributes
    return lambda dy, y: tf.where(y > 0, dy, tf.zeros_like(dy))


def _relu_6(attributes: Any) -> Callable[..., tf.Tensor]:
    del attributes
    return lambda dy, y: tf.where((y > 0) & (y < 6), dy, tf.zeros_like(dy))


def _leaky_relu(attributes: Any) -> Callable[..., tf.Tensor]:
    slope = attributes["alpha"].f
    return lambda dy, x: tf.where(x > 0, dy, slope * dy)


def _elu(attributes: Any) -> Callable[..., tf.Tensor]:
    del attributes
    return lambda dy, y: tf.where(y < 0, dy * (y + 1), dy)


class _Windows:
    """The windows of a pool or a kernel over images, channels last."""

    def __init__(self, size: Sequence[int], attributes: Any):
        """
        Args:
            size: rows and columns of a window.
            attributes: those of the `NodeDef`, by name.
        """
        self._size = size
        _, *self._strides, _ = attributes["strides"].list.i
        self._same = attributes["padding"].s == b"SAME"

    def taps(self) -> Iterator[tuple[int, int]]:
        """Places in a window, in the order of memory."""
        height, width = self._size
        return ((i, j) for i in range(height) for j in range(width))

    def seen(
        self, images: tf.Tensor, counts: list[tf.Tensor], outside: float
    ) -> Iterator[tf.Tensor]:
        """What each tap sees in the windows: [examples, rows, columns, C].

        Args:
            images: [examples, height, width, C].
            counts: numbers of windows along rows and columns.
            outside: the value outside of the images.
        """
        before, after = self._margins(tf.shape(images)[1:3], counts)
        padded = tf.pad(
            images,
            tf.stack([[0, 0], *zip(before, after, strict=True), [0, 0]]),
            constant_values=tf.constant(outside, images.dtype),
        )
        (rows, columns), (down, right) = counts, self._strides
        for i, j in self.taps():
            yield padded[
                :,
                i : i + (rows - 1) * down + 1 : down,
                j : j + (columns - 1) * right + 1 : right,
            ]

    def spread(self, by_tap: list[tf.Tensor], size: tf.Tensor) -> tf.Tensor:
        """The transpose of `seen`: sums where windows overlap.

        Args:
            by_tap: for each tap a tensor [examples, rows, columns, C].
            size: height and width of the images.
        """
        counts = tf.unstack(tf.shape(by_tap[0])[1:3])
        before, after = self._margins(size, counts)
        height, width = (
            size[axis] + before[axis] + after[axis] for axis in (0, 1)
        )
        sums = []
        for (i, j), values in zip(self.taps(), by_tap, strict=True):
            for axis, stride in enumerate(self._strides, start=1):
                values = _spaced(values, axis, stride)
            values = values[:, : height - i, : width - j]
            below = height - i - tf.shape(values)[1]
            beside = width - j - tf.shape(values)[2]
            margins = [[0, 0], [i, below], [j, beside], [0, 0]]
            sums.append(tf.pad(values, tf.stack(margins)))
        (top, left), (rows, columns) = before, tf.unstack(size)
        return tf.add_n(sums)[:, top : top + rows, left : left + columns]

    def counts(self, size: tf.Tensor) -> list[tf.Tensor]:
        """Numbers of windows along rows and columns."""
        return [
            -(-size[a] // self._strides[a])
            if self._same
            else (size[a] - self._size[a]) // self._strides[a] + 1
            for a in (0, 1)
        ]

    def _margins(self, size, counts) -> tuple[list, list]:
        """How far windows reach over the images' edges."""
        before, after = [], []
        for axis in (0, 1):
            reach = (counts[axis] - 1) * self._strides[axis] + self._size[axis]
            surplus = tf.maximum(reach - size[axis], 0)
            before.append(surplus // 2)
            after.append(surplus - surplus // 2)
        return before, after


def _spaced(x: tf.Tensor, axis: int, stride: int) -> tf.Tensor:
    """Zeros between values along an axis, `stride - 1` after each."""
    if stride == 1:
        return x
    shape = tf.unstack(tf.shape(x))
    shape[axis] *= stride
    zeros = [tf.zeros_like(x)] * (stride - 1)
    return tf.reshape(tf.stack([x, *zeros], axis + 1), shape)


def gradient_of_maximum(attributes: Any) -> Callable[..., tf.Tensor]:
    """`MaxPoolGrad`: of several maxima, the first gets the gradient.

    Args:
        attributes: those of the `NodeDef`, by name.

    Returns:
        A function of the images, the pool's outputs and the gradient w.r.t.
        these, [examples, rows, columns, C] each.
    """
    windows = _Windows(attributes["ksize"].list.i[1:3], attributes)

    def gradient(x: tf.Tensor, y: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        x, y, dy = (tf.ensure_shape(t, [None] * 4) for t in (x, y, dy))
        counts = tf.unstack(tf.shape(y)[1:3])
        taken = tf.zeros_like(y)  # 1 where an earlier tap was the maximum
        by_tap = []
        for seen in windows.seen(x, counts, outside=x.dtype.min):
            is_first = (seen == y) & (taken == 0)
            by_tap.append(tf.where(is_first, dy, tf.zeros_like(dy)))
            taken = tf.where(is_first, tf.ones_like(taken), taken)
        return windows.spread(by_tap, tf.shape(x)[1:3])

    return gradient


def gradient_of_average(attributes: Any) -> Callable[..., tf.Tensor]:
    """`AvgPoolGrad`, where an average is over what lies inside of the images.

    Args:
        attributes: those of the `NodeDef`, by name.

    Returns:
        A function of the images' shape and the gradient w.r.t. the outputs.
    """
    windows = _Windows(attributes["ksize"].list.i[1:3], attributes)

    def gradient(shape: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        dy = tf.ensure_shape(dy, [None] * 4)
        size = tf.ensure_shape(shape, [4])[1:3]
        ones = tf.ones(tf.stack([1, size[0], size[1], 1]), dy.dtype)
        inside = windows.seen(ones, windows.counts(size), outside=0.0)
        share = dy / tf.add_n(list(inside))
        return windows.spread([share for _ in windows.taps()], size)

    return gradient


def gradient_of_kernel(attributes: Any) -> Callable[..., tf.Tensor]:
    """`Conv2DBackpropFilter`, as the product of patches and gradient.

    Args:
        attributes: those of the `NodeDef`, by name; `_output_shapes` holds the
            shape of the kernel.

    Returns:
        A function of the images, the kernel's shape and the gradient w.r.t.
        the outputs, [examples, rows, columns, filters].
    """
    shape = _shape_of_output(attributes)
    windows = _Windows(shape[:2], attributes)

    def gradient(x: tf.Tensor, size: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        del size  # known from the attributes
        seen = _patches(windows, x, dy, shape[2])
        patches = tf.reshape(tf.concat(seen, -1), [-1, math.prod(shape[:3])])
        rows = tf.reshape(dy, [-1, shape[3]])
        return tf.reshape(tf.matmul(patches, rows, transpose_a=True), shape)

    return gradient


def gradient_of_depthwise_kernel(attributes: Any) -> Callable[..., tf.Tensor]:
    """`DepthwiseConv2dNativeBackpropFilter`, as sums of products.

    Args, returns: as for `gradient_of_kernel`.
    """
    shape = _shape_of_output(attributes)
    windows = _Windows(shape[:2], attributes)

    def gradient(x: tf.Tensor, size: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        del size  # known from the attributes
        rows = tf.reshape(dy, [-1, shape[2], shape[3]])
        sums = [
            tf.reduce_sum(tf.reshape(seen, [-1, shape[2], 1]) * rows, axis=0)
            for seen in _patches(windows, x, dy, shape[2])
        ]
        return tf.reshape(tf.stack(sums), shape)

    return gradient


def _patches(
    windows: _Windows, x: tf.Tensor, dy: tf.Tensor, channels: int
) -> list[tf.Tensor]:
    x = tf.ensure_shape(x, [None, None, None, channels])
    counts = tf.unstack(tf.shape(tf.ensure_shape(dy, [None] * 4))[1:3])
    return list(windows.seen(x, counts, outside=0.0))


def _shape_of_output(attributes: Any) -> list[int]:
    (shape,) = attributes["_output_shapes"].list.shape
    return [axis.size for axis in shape.dim]


# Name of the output; dtypes of the inputs, None for that of the gradient.
_FORMULATIONS: dict[str, tuple[str, list, _Formulation]] = {
    "ReluGrad": ("backprops", [None, None], _relu),
    "Relu6Grad": ("backprops", [None, None], _relu_6),
    "LeakyReluGrad": ("backprops", [None, None], _leaky_relu),
    "EluGrad": ("backprops", [None, None], _elu),
    "MaxPoolGrad": ("output", [None, None, None], gradient_of_maximum),
    "AvgPoolGrad": ("output", [tf.int32, None], gradient_of_average),
    "Conv2DBackpropFilter": (
        "output",
        [None, tf.int32, None],
        gradient_of_kernel,
    ),
    "DepthwiseConv2dNativeBackpropFilter": (
        "output",
        [None, tf.int32, None],
        gradient_of_depthwise_kernel,
    ),
}
