"""Reads networks that the original code trained (cbfinn/maml, TensorFlow 1).

Its `main.py` saves the trainable variables as `model<iteration>.index` and
`model<iteration>.data-00000-of-00001`. Convolutional networks with batch
normalization can be read; what it names the variables of others is not known.
"""

import dataclasses
import glob
import hashlib
import os
import pathlib
import re
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from maml_tf.errors import RunDirectoryError
from maml_tf.files import readable_by_tensorflow

# In the order of `conv_net(...).trainable_variables`, by the names of both.
# Biases of convolutions have no names there; offsets are named by block.
_NAMES = [f"model/{name}" for name in (
    "conv1", "Variable", "0/beta",
    "conv2", "Variable_1", "1/beta",
    "conv3", "Variable_2", "2/beta",
    "conv4", "Variable_3", "3/beta",
    "w5", "b5",
)]  # fmt: skip
_OUR_NAMES = [*["kernel", "bias", "beta"] * 4, "kernel", "bias"]

# By channels of an image: data set, side of an image, and the positions of the
# last maps that the last layer sees (those of Omniglot are averaged).
_DATA_SETS = {1: ("omniglot", 28, 1), 3: ("miniimagenet", 84, 25)}


@dataclasses.dataclass(frozen=True, eq=False)
class OriginalNetwork:
    """A network of the original code.

    Attributes:
        prefix: the checkpoint's path up to `.index`.
        weights: float32 arrays in the order of the variables of a `conv_net`.
    """

    prefix: str
    weights: tuple[np.ndarray, ...]

    @property
    def name(self) -> str:
        """The name of its files, and a digest of its weights."""
        digest = hashlib.sha256(b"".join(w.tobytes() for w in self.weights))
        return f"{os.path.basename(self.prefix)}.{digest.hexdigest()[:8]}"

    @property
    def iteration(self) -> int:
        """Iterations of training, from the files' name; 0 if not in it."""
        return int(re.findall(r"\d*$", self.prefix)[0] or 0)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the images that it was made for."""
        _, side, _ = _DATA_SETS[self._channels]
        return side, side, self._channels

    @property
    def datasource(self) -> str:
        """The data set that it was made for."""
        return _DATA_SETS[self._channels][0]

    @property
    def settings(self) -> dict[str, Any]:
        """The network's settings, as far as its weights tell.

        They do not say how it was trained, nor whether a network for Omniglot
        pools rather than strides.
        """
        _, _, positions = _DATA_SETS[self._channels]
        return {
            "num_ways": self.weights[-1].size,
            "num_filters": self.weights[0].shape[3],
            "max_pool": positions > 1,
        }

    @property
    def _channels(self) -> int:
        return self.weights[0].shape[2]

    def assign_to(self, model: keras.Model) -> None:
        """Assigns the weights to a `conv_net`: all of them, or none.

        Raises:
            RunDirectoryError: if the model is another network.
        """
        variables = model.trainable_variables
        ours = [(v.name, tuple(v.shape)) for v in variables]
        shapes = [array.shape for array in self.weights]
        if ours != list(zip(_OUR_NAMES, shapes, strict=True)):
            raise RunDirectoryError(
                f"{self.prefix} does not fit the network. It is for images "
                f"of {self.image_shape} in {self.weights[-1].size} classes: "
                f"{shapes[0][3]} filters, batch normalization, a last layer "
                f"of {shapes[-2]}."
            )
        for variable, array in zip(variables, self.weights, strict=True):
            variable.assign(array)


def read_original_checkpoint(prefix: str | os.PathLike) -> OriginalNetwork:
    """Reads a checkpoint of the original code.

    Args:
        prefix: path of its files up to `.index`, or of one of them.

    Raises:
        RunDirectoryError: if it is missing, damaged or of another network.
    """
    prefix = re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", os.fspath(prefix))
    try:
        path = pathlib.Path(prefix)
        for file in (path, *path.parent.glob(f"{glob.escape(path.name)}.*")):
            if file.is_fifo():  # reading would wait for whoever writes to it
                raise ValueError(f"{file} is a pipe")
        with readable_by_tensorflow(path.parent) as readable:
            reader = tf.train.load_checkpoint(str(readable / path.name))
            _check(prefix, reader)
            weights = tuple(reader.get_tensor(name) for name in _NAMES)
    except (tf.errors.OpError, ValueError, IndexError) as e:
        raise RunDirectoryError(
            f"{prefix} cannot be read as a TensorFlow checkpoint "
            f"({str(e).partition(chr(10))[0]}). Give the path of its two "
            "files up to '.index', and check that both are complete."
        ) from e
    for name, array in zip(_NAMES, weights, strict=True):
        if not np.isfinite(array).all():
            raise RunDirectoryError(f"{prefix}: {name} is not finite.")
    return OriginalNetwork(prefix, weights)


def _check(prefix: str, reader) -> None:
    """Raises RunDirectoryError if it is of another network."""
    found = reader.get_variable_to_shape_map()
    missing = [name for name in _NAMES if name not in found]
    if missing or len(found) > len(_NAMES):
        names = missing or sorted(set(found) - set(_NAMES))
        raise RunDirectoryError(
            f"{prefix} {'lacks' if missing else 'has'} {', '.join(names)}. "
            "Only the original's convolutional networks with batch "
            "normalization can be read."
        )
    conv1, ways = found["model/conv1"], found["model/w5"][-1:]
    channels = 1 if conv1[2:3] == [1] else 3
    data_set, _, positions = _DATA_SETS[channels]
    filters = conv1[-1] if conv1 else 0
    expected = {name: [filters] for name in _NAMES}
    expected |= {f"model/conv{k}": [3, 3, filters, filters] for k in (2, 3, 4)}
    expected["model/conv1"] = [3, 3, channels, filters]
    expected["model/w5"] = [positions * filters, *ways]
    expected["model/b5"] = ways
    types = reader.get_variable_to_dtype_map()
    for name in _NAMES:
        if found[name] != expected[name] or types[name] != tf.float32:
            raise RunDirectoryError(
                f"{prefix}: {name} is {types[name].name} {found[name]}, but "
                f"the original's network of {filters} filters for {data_set} "
                f"has float32 {expected[name]}."
            )
