"""Sizes and initial values of the paper's networks."""

import numpy as np
import pytest

from maml_tf.models import conv_net, dense_net


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


def test_dense_weights_start_small_and_truncated():
    kernel = dense_net(1, (40, 40), 1).trainable_variables[2].numpy()
    assert np.abs(kernel).max() <= 0.02
    assert kernel.std() == pytest.approx(0.01 * 0.88, rel=0.1)
    assert not np.array_equal(
        kernel, dense_net(1, (40, 40), 1, seed=1).trainable_variables[2]
    )


def test_heads_start_as_the_originals():
    strided = conv_net((28, 28, 1), 20).trainable_variables[-2].numpy()
    assert strided.std() == pytest.approx(1.0, rel=0.1)
    pooled = conv_net((84, 84, 3), 5, 32, max_pool=True)
    head = pooled.trainable_variables[-2].numpy()
    assert np.abs(head).max() <= np.sqrt(6 / (800 + 5))


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm must be one of.*weight_norm"):
        dense_net(1, (4,), 1, norm="weight_norm")
