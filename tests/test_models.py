"""Sizes and initial values of the paper's networks."""

import itertools

import keras
import numpy as np
import pytest

from maml_tf.models import conv_net, dense_image_net, dense_net


def count(model, kind):
    return sum(
        int(np.prod(v.shape))
        for v in model.trainable_variables
        if (v.name in ("beta", "gamma")) == (kind == "normalization")
    )


@pytest.mark.parametrize(
    ("model", "adapted", "normalization"),
    [
        (lambda: dense_net(1, (40, 40), 1), 1761, 0),
        (lambda: dense_net(3, (40, 40), 1), 1841, 0),
        (
            lambda: dense_net(784, (256, 128, 64, 64), 5, "batch_norm"),
            246597,
            512,
        ),
        (lambda: dense_image_net((28, 28, 1), 5), 246597, 512),
        (lambda: conv_net((28, 28, 1), 5), 111749, 256),
        (lambda: conv_net((28, 28, 1), 20), 112724, 256),
        (lambda: conv_net((84, 84, 3), 5, 32, max_pool=True), 32645, 128),
        (lambda: conv_net((28, 28, 1), 5, norm="layer_norm"), 111749, 512),
        (lambda: conv_net((28, 28, 1), 5, norm=None), 111749, 0),
    ],
)
def test_parameter_counts_are_the_originals(model, adapted, normalization):
    model = model()
    assert count(model, "adapted") == adapted
    assert count(model, "normalization") == normalization


def test_shapes_of_the_maps():
    def sides(model):
        return [
            layer.output.shape[1]
            for layer in model.layers
            if len(layer.output.shape) == 4 and "re_lu" not in layer.name
        ]

    strided = sides(conv_net((28, 28, 1), 5, norm=None))
    assert strided == [14, 7, 4, 2]
    pooled = sides(conv_net((84, 84, 3), 5, 32, max_pool=True, norm=None))
    assert pooled == [84, 42, 42, 21, 21, 10, 10, 5]


@pytest.mark.parametrize(
    ("model", "classes"),
    [
        (lambda: conv_net((28, 28, 1), 20), 20),
        (lambda: conv_net((84, 84, 3), 5, 32, max_pool=True), 5),
        (lambda: dense_image_net((28, 28, 1), 7), 7),
    ],
)
def test_outputs_are_one_logit_for_each_class(model, classes):
    model = model()
    assert model.output_shape == (None, classes)
    assert model.layers[-1].activation is keras.activations.linear


def variables(model, name):
    """Values of all variables of a name, in order."""
    return [v.numpy() for v in model.trainable_variables if v.name == name]


@pytest.mark.parametrize(
    "model",
    [
        lambda: dense_net(1, (40, 40), 1),
        lambda: dense_image_net((28, 28, 1), 5),
    ],
)
def test_dense_weights_start_small_and_truncated(model):
    kernels = variables(model(), "kernel")
    for kernel in kernels:
        assert np.abs(kernel).max() <= 0.02
    largest = max(kernels, key=np.size)
    assert largest.std() == pytest.approx(0.01 * 0.88, rel=0.1)
    assert largest.mean() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("max_pool", [False, True])
def test_convolutions_start_glorot_uniform(max_pool):
    kernels = variables(conv_net((28, 28, 3), 5, 32, max_pool), "kernel")
    assert len(kernels) == 5
    for kernel, depth in zip(kernels[:4], [3, 32, 32, 32], strict=True):
        bound = np.sqrt(6 / (9 * depth + 9 * 32))
        assert 0.98 * bound < np.abs(kernel).max() <= bound
        assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)


def test_the_head_of_a_network_with_strides_starts_normal():
    """Standard deviation 1, not truncated."""
    head = variables(conv_net((28, 28, 1), 20), "kernel")[-1]
    assert head.shape == (64, 20)
    assert head.std() == pytest.approx(1.0, rel=0.1)
    assert head.mean() == pytest.approx(0.0, abs=0.1)
    assert np.mean(np.abs(head) > 2) == pytest.approx(0.0455, abs=0.02)


def test_the_head_of_a_network_that_pools_starts_glorot_uniform():
    model = conv_net((84, 84, 3), 5, 32, max_pool=True)
    head = variables(model, "kernel")[-1]
    bound = np.sqrt(6 / (800 + 5))
    assert head.shape == (800, 5)
    assert 0.98 * bound < np.abs(head).max() <= bound
    assert head.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)


@pytest.mark.parametrize("norm", ["batch_norm", "layer_norm", None])
@pytest.mark.parametrize("build", [conv_net, dense_image_net])
def test_biases_and_offsets_start_at_0_and_scales_at_1(build, norm):
    model = build((6, 6, 1), 3, norm=norm)
    biases = variables(model, "bias")
    assert len(biases) == 5
    offsets, scales = variables(model, "beta"), variables(model, "gamma")
    assert len(offsets) == (4 if norm else 0)
    assert len(scales) == (4 if norm == "layer_norm" else 0)
    assert not any(value.any() for value in [*biases, *offsets])
    assert all((value == 1).all() for value in scales)


@pytest.mark.parametrize(
    "build",
    [
        lambda seed: conv_net((6, 6, 1), 3, 8, seed=seed),
        lambda seed: dense_image_net((3, 3, 1), 3, seed=seed),
        lambda seed: dense_net(3, (4, 4, 4), 9, seed=seed),
    ],
)
def test_initial_weights_follow_from_the_seed(build):
    first, same, other = (
        [np.ravel(k) for k in variables(build(seed), "kernel")]
        for seed in (3, 3, 4)
    )
    for a, b in zip(first, same, strict=True):
        np.testing.assert_array_equal(a, b)
    # No two layers or seeds share numbers, not even scaled ones.
    starts = [kernel[:9] / kernel.std() for kernel in [*first, *other]]
    for a, b in itertools.combinations(starts, 2):
        assert np.abs(a - b).max() > 0.1


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm must be one of.*weight_norm"):
        dense_net(1, (4,), 1, norm="weight_norm")


@pytest.mark.parametrize(
    "make",
    [
        lambda head: conv_net((28, 28, 1), 20, head_init=head),
        lambda head: conv_net((28, 28, 1), 20, max_pool=True, head_init=head),
        lambda head: dense_image_net((28, 28, 1), 20, head_init=head),
    ],
)
def test_the_heads_initial_spread(make):
    *body, kernel, bias = make(0.02).get_weights()
    assert kernel.std() == pytest.approx(0.02, rel=0.1)
    assert not bias.any()
    for a, b in zip(body, make(None).get_weights(), strict=False):
        np.testing.assert_array_equal(a, b)
