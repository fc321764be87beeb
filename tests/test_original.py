"""The original's checkpoints: the same outputs, and clear refusals."""

import dataclasses
import os
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import SHARED

from maml_tf.core.prediction import predict
from maml_tf.errors import ConfigError, RunDirectoryError
from maml_tf.experiments.original_checkpoint import read_original_checkpoint
from maml_tf.experiments.registry import find_source
from maml_tf.models import conv_net, dense_net

RELEASED = SHARED / "data" / "original_checkpoint" / "model59000"
needs_released = pytest.mark.skipif(
    not RELEASED.with_suffix(".index").exists(),
    reason="needs the authors' checkpoint",
)
FILTERS, WAYS = 2, 3


def write(prefix, variables):
    """A checkpoint as TensorFlow 1 writes it."""
    tf.raw_ops.SaveV2(
        prefix=str(prefix),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(variables),
        tensors=[tf.constant(value) for value in variables.values()],
    )
    return prefix


def network(channels, head):
    """Random variables of a small network by their names."""
    rng = np.random.default_rng(0)
    shapes = {}
    for k, name in enumerate(["", "_1", "_2", "_3"]):
        depth = FILTERS if k else channels
        shapes[f"conv{k + 1}"] = (3, 3, depth, FILTERS)
        shapes[f"Variable{name}"] = (FILTERS,)
        shapes[f"{k}/beta"] = (FILTERS,)
    shapes |= {"w5": (head, WAYS), "b5": (WAYS,)}
    return {
        f"model/{name}": rng.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }


@pytest.fixture
def omniglot(tmp_path):
    """Prefix and variables of a network for Omniglot."""
    variables = network(1, FILTERS)
    return write(tmp_path / "model7", variables), variables


def forward(variables, images):
    """The original's network in NumPy."""
    strides = 2 if images.shape[-1] == 1 else 1
    x = images.astype(np.float64)
    for k, bias in enumerate(["", "_1", "_2", "_3"]):
        x = convolve(x, variables[f"model/conv{k + 1}"], strides)
        x = x + variables[f"model/Variable{bias}"]
        deviations = x - x.mean((0, 1, 2))
        x = deviations / np.sqrt((deviations**2).mean((0, 1, 2)) + 1e-3)
        x = np.maximum(x + variables[f"model/{k}/beta"], 0)
        if strides == 1:
            side = x.shape[1] // 2
            x = x[:, : 2 * side, : 2 * side]
            x = x.reshape(len(x), side, 2, side, 2, -1).max((2, 4))
    x = x.reshape(len(x), -1) if strides == 1 else x.mean((1, 2))
    return x @ variables["model/w5"] + variables["model/b5"]


def convolve(x, kernel, stride):
    """As `SAME` pads: an odd zero goes to the bottom and the right."""
    side = x.shape[1]
    outputs = -(-side // stride)
    zeros = (outputs - 1) * stride + 3 - side
    padding = (zeros // 2, zeros - zeros // 2)
    x = np.pad(x, [(0, 0), padding, padding, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    return np.tensordot(windows, kernel, axes=((4, 5, 3), (0, 1, 2)))


def check_outputs(prefix, variables):
    original = read_original_checkpoint(prefix)
    config = config_of(original)
    model = conv_net(
        original.image_shape,
        config.num_ways,
        config.num_filters,
        config.max_pool,
        config.norm,
    )
    original.assign_to(model)
    # Keras' inputs are float32 whatever the policy.
    images = np.random.default_rng(1).random((5, *original.image_shape), "f")
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    np.testing.assert_allclose(
        predict(model, theta, tf.constant(images)),
        forward(variables, images),
        rtol=1e-9,
        atol=1e-9,
    )
    return original


@needs_released
def test_the_released_network_computes_the_same(float64):
    reader = tf.train.load_checkpoint(str(RELEASED))
    names = reader.get_variable_to_shape_map()
    original = check_outputs(
        RELEASED, {name: reader.get_tensor(name) for name in names}
    )
    assert sum(array.size for array in original.weights) == 32773
    config = config_of(original)
    assert config.datasource == "miniimagenet"
    assert (config.num_ways, config.num_filters) == (5, 32)
    assert config.max_pool
    assert (config.num_shots, config.alpha, config.num_steps) == (1, 0.01, 5)


@pytest.mark.parametrize(("channels", "head"), [(1, 1), (3, 25)])
def test_a_users_network_computes_the_same(tmp_path, float64, channels, head):
    variables = network(channels, head * FILTERS)
    check_outputs(write(tmp_path / "model7", variables), variables)


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001", ".meta"])
def test_the_name_of_a_file_is_accepted(omniglot, suffix):
    prefix, variables = omniglot
    original = read_original_checkpoint(f"{prefix}{suffix}")
    np.testing.assert_array_equal(original.weights[0], variables["model/conv1"])


def config_of(original, datasource=None, **given):
    """As the command line has it."""
    source = find_source(datasource or original.datasource)
    return source.configure(**(original.settings | given))


def test_settings_follow_from_shapes(omniglot):
    original = read_original_checkpoint(omniglot[0])
    config = config_of(original)
    assert (config.datasource, config.max_pool) == ("omniglot", False)
    assert (config.num_ways, config.num_filters) == (WAYS, FILTERS)
    assert (config.conv, config.norm, config.alpha) == (True, "batch_norm", 0.4)
    given = config_of(original, "glyphs", max_pool=True, num_shots=5)
    assert (given.datasource, given.max_pool) == ("glyphs", True)
    assert (given.num_shots, given.num_ways) == (5, WAYS)
    with pytest.raises(ConfigError, match="alpha"):
        config_of(original, alpha=-1.0)


def test_files_tell_the_iteration_and_weights_the_name(omniglot, tmp_path):
    prefix = tmp_path / "model300"
    for suffix in (".index", ".data-00000-of-00001"):
        shutil.copy(f"{omniglot[0]}{suffix}", f"{prefix}{suffix}")
    original = read_original_checkpoint(f"{prefix}.index")
    assert original.iteration == 300
    assert re.fullmatch(r"model300\.[0-9a-f]{8}", original.name)
    weights = tuple(w + 1 for w in original.weights)
    assert dataclasses.replace(original, weights=weights).name != original.name


def test_a_network_of_omniglot_that_pools_fits_too(omniglot):
    model = conv_net((28, 28, 1), WAYS, FILTERS, max_pool=True)
    read_original_checkpoint(omniglot[0]).assign_to(model)
    np.testing.assert_array_equal(
        model.trainable_variables[-1], omniglot[1]["model/b5"]
    )


@pytest.mark.parametrize(
    "build",
    [
        lambda: conv_net((28, 28, 1), WAYS + 1, FILTERS),
        lambda: conv_net((28, 28, 1), WAYS, FILTERS + 1),
        lambda: conv_net((28, 28, 3), WAYS, FILTERS),
        lambda: conv_net((84, 84, 1), WAYS, FILTERS, max_pool=True),
        lambda: conv_net((28, 28, 1), WAYS, FILTERS, norm=None),
        lambda: conv_net((28, 28, 1), WAYS, FILTERS, norm="layer_norm"),
        lambda: dense_net(1, (4,), 1),
    ],
    ids=["ways", "filters", "channels", "size", "no norm", "layer", "dense"],
)
def test_another_network_is_refused_and_keeps_its_weights(omniglot, build):
    model = build()
    before = model.get_weights()
    with pytest.raises(RunDirectoryError, match=r"model7 does not fit.*28, 28"):
        read_original_checkpoint(omniglot[0]).assign_to(model)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_variables_in_another_order_are_refused(omniglot):
    """Biases and offsets have the same shapes."""
    layers = []
    for _ in range(4):
        layers += [
            keras.layers.Conv2D(FILTERS, 3, 2, "same", use_bias=False),
            keras.layers.BatchNormalization(),
        ]
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *layers,
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(WAYS),
        ]
    )
    original = read_original_checkpoint(omniglot[0])
    shapes = [tuple(v.shape) for v in model.trainable_variables]
    assert shapes == [array.shape for array in original.weights]
    with pytest.raises(RunDirectoryError, match="does not fit"):
        original.assign_to(model)


def changed(**changes):
    """A network's variables, some changed, or left out if None."""
    new = {f"model/{name}": value for name, value in changes.items()}
    variables = network(1, FILTERS) | new
    return {n: value for n, value in variables.items() if value is not None}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (changed(Variable_2=None), r"lacks model/Variable_2\. Only"),
        (
            {f"model/Variable{k}": np.ones(3, "f") for k in ("", "_1")},
            "lacks model/conv1, model/0/beta.*Only the original's conv",
        ),
        (
            {n: v for n, v in changed().items() if "beta" not in n},
            "lacks model/0/beta, model/1/beta.*batch normalization",
        ),
        (
            changed(**{"0/gamma": np.ones(2, "f")}),
            r"has model/0/gamma\. Only",
        ),
        (changed(conv3=np.ones((3, 3, 2, 4), "f")), r"conv3.*\[3, 3, 2, 4\]"),
        (changed(conv1=np.ones((3, 3, 2, 2), "f")), r"conv1.*\[3, 3, 2, 2\]"),
        (changed(conv1=np.ones((5, 5, 1, 2), "f")), r"conv1.*\[5, 5, 1, 2\]"),
        (changed(conv1=np.float32(1)), r"conv1 is float32 \[\]"),
        (changed(Variable=np.ones(3, "f")), r"Variable is float32 \[3\], but"),
        (changed(w5=np.ones((50, 3), "f")), r"w5.*\[50, 3\].* \[2, 3\]"),
        (changed(w5=np.float32(1)), r"w5 is float32 \[\]"),
        (changed(b5=np.ones(4, "f")), r"b5 is float32 \[4\].* \[3\]"),
        (changed(b5=np.ones(3)), r"b5 is float64 \[3\].*float32 \[3\]"),
        (
            network(3, FILTERS),
            r"w5.*\[2, 3\].*miniimagenet has float32 \[50, 3\]",
        ),
        (
            changed(**{"2/beta": np.array([1, np.nan], "f")}),
            "model/2/beta is not finite",
        ),
        (changed(w5=np.full((2, 3), np.inf, "f")), "w5 is not finite"),
    ],
)
def test_another_content_is_refused(tmp_path, variables, message):
    prefix = write(tmp_path / "model7", variables)
    with pytest.raises(RunDirectoryError, match=f"model7.*{message}"):
        read_original_checkpoint(prefix)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("suffix", [".index", ".data-00000-of-00001"])
@pytest.mark.parametrize(
    "damage",
    [cut, flip, lambda path: path.write_bytes(b""), type(RELEASED).unlink],
)
def test_damage_is_one_clear_sentence(omniglot, suffix, damage):
    prefix, _ = omniglot
    damage(prefix.with_name(prefix.name + suffix))
    with pytest.raises(
        RunDirectoryError, match=r"model7 cannot be read as .* checkpoint"
    ):
        read_original_checkpoint(prefix)


@pytest.mark.parametrize("name", ["model8", "nowhere/model7", ""])
def test_a_checkpoint_that_is_not_there_is_reported(omniglot, name):
    with pytest.raises(RunDirectoryError, match="cannot be read.*'.index'"):
        read_original_checkpoint(omniglot[0].parent / name)


@pytest.mark.parametrize("suffix", ["", ".index", ".data-00000-of-00001"])
def test_a_pipe_is_not_waited_for(tmp_path, suffix):
    os.mkfifo(tmp_path / f"model{suffix}")
    with pytest.raises(RunDirectoryError, match="is a pipe"):
        read_original_checkpoint(tmp_path / "model")
