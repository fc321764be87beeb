"""Convolution and batch normalization together: the values of the two apart."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.prediction import predict
from maml_tf.errors import ConfigError
from maml_tf.layers import convolution
from maml_tf.layers.convolution import Conv2D
from maml_tf.layers.normalization import (
    BatchNormalization,
    statistics_of_first,
    use_exact_normalization,
    which_adapt,
)
from maml_tf.layers.normalized_convolution import NormalizedConv2D
from maml_tf.models import conv_net

FEW, MANY = 1, 3  # channels: fewer elements than filters, and more
FILTERS = 10


@pytest.fixture(params=["small", "large"])
def size(request, monkeypatch):
    """Images whose patches fit, and images that are left to TensorFlow."""
    if request.param == "large":
        monkeypatch.setattr(convolution, "MAX_PATCH_BYTES", 0)


def random(seed, *shape):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape))


def pair(dtype="float64", **settings):
    """The two layers."""
    norm = {"epsilon": 1e-3}
    norm |= {k: settings.pop(k) for k in ("scale", "center") if k in settings}
    return (
        Conv2D(FILTERS, 3, 2, "same", dtype=dtype, **settings),
        BatchNormalization(**norm, dtype=dtype),
    )


def model_of(channels, *layers):
    """A model of float64 with random weights."""
    model = keras.Sequential(
        [keras.Input((6, 6, channels), dtype="float64"), *layers]
    )
    for i, variable in enumerate(model.trainable_variables):
        variable.assign(random(i, *variable.shape))
    return model


def together(channels, **settings):
    return model_of(channels, NormalizedConv2D(*pair(**settings)))


def apart(channels, **settings):
    return model_of(channels, *pair(**settings))


def of_keras(channels, **settings):
    layers = [
        type(layer).__base__.from_config(layer.get_config())
        for layer in pair(**settings)
    ]
    return model_of(channels, *layers)


def kernel_of(model):
    return model.trainable_variables[0]


def derivatives(model, images, order):
    """Of a function of the outputs, by images, kernel, gamma and beta."""
    kernel, _, gamma, beta = model.trainable_variables
    variables = [kernel, gamma, beta]

    def value(at, order):
        if order == 0:
            scope = list(zip(variables, at[1:], strict=True))
            with keras.StatelessScope(scope):
                return tf.reduce_sum(tf.sin(model(at[0], training=True)))
        return sum(tf.reduce_sum(tf.sin(g)) for g in gradient(at, order))

    def gradient(at, order):
        with tf.GradientTape() as tape:
            tape.watch(at)
            before = value(at, order - 1)
        return tape.gradient(before, at)

    return gradient(
        [images, *(tf.convert_to_tensor(v) for v in variables)], order
    )


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        scale = float(tf.reduce_max(tf.abs(b)))
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9 * scale)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("channels", [FEW, MANY])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_derivatives_are_those_of_the_layers_apart(channels, order):
    x = random(9, 4, 6, 6, channels)
    assert_close(
        derivatives(together(channels), x, order),
        derivatives(apart(channels), x, order),
    )


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("build", [together, apart])
@pytest.mark.parametrize("channels", [FEW, MANY])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_bias": False},
        {"scale": False},
        {"center": False},
        {"scale": False, "center": False},
    ],
    ids=str,
)
def test_outputs_and_moving_statistics_are_those_of_keras(
    build, channels, settings
):
    ours, theirs = build(channels, **settings), of_keras(channels, **settings)
    for seed in (7, 8):
        x = random(seed, 4, 6, 6, channels)
        np.testing.assert_allclose(
            ours(x, training=True), theirs(x, training=True), rtol=1e-9
        )
    assert len(ours.variables) == len(theirs.variables)
    for a, b in zip(ours.variables, theirs.variables, strict=True):
        assert a.name == b.name
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-9)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("channels", [FEW, MANY])
@pytest.mark.parametrize("compiled", [False, True])
def test_gradients_by_feature_maps_between_the_layers(channels, compiled):
    x = random(9, 4, 6, 6, channels)
    found = []
    for model in (apart(channels), of_keras(channels)):

        def by_maps(model=model):
            conv, norm = model.layers
            with tf.GradientTape() as tape:
                maps = conv(x)
                tape.watch(maps)
                value = tf.reduce_sum(tf.sin(norm(maps, training=True)))
            return tape.gradient(value, [maps, kernel_of(model).value])

        found.append(tf.function(by_maps)() if compiled else by_maps())
    ours, theirs = found
    assert ours[0].shape == (4, 3, 3, FILTERS)
    assert_close(ours, theirs)


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("channels", [FEW, MANY])
@pytest.mark.parametrize("compiled", [False, True])
def test_only_in_training_the_bias_cancels(channels, compiled):
    model = together(channels)
    bias = model.trainable_variables[1]
    x = random(9, 4, 6, 6, channels)

    def bias_gradient(training):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(tf.sin(model(x, training=training)))
        return tape.gradient(value, bias.value)

    run = tf.function(bias_gradient) if compiled else bias_gradient
    assert run(True) is None
    assert np.abs(run(False)).max() > 0.01


def test_statistics_of_the_first_examples_are_those_of_the_layers_apart():
    x = random(9, 4, 6, 6, FEW)
    outputs = []
    for model in (together(FEW), apart(FEW)):
        with statistics_of_first(2):
            outputs.append(model(x, training=True))
        alone = model(x[:2], training=True)
        np.testing.assert_allclose(outputs[-1][:2], alone, rtol=1e-9)
    np.testing.assert_array_equal(*outputs)


def test_a_frozen_normalization_uses_its_moving_statistics():
    model = together(FEW)
    x = random(9, 4, 6, 6, FEW)
    model(x, training=True)
    model.layers[0].layers[1].trainable = False
    moving = model.non_trainable_variables[-1].numpy()
    np.testing.assert_array_equal(model(x, training=True), model(x))
    np.testing.assert_array_equal(model.non_trainable_variables[-1], moving)


@pytest.mark.parametrize(
    "settings",
    [{"dilation_rate": 2, "strides": 1}, {"groups": 2, "strides": 1}],
    ids=str,
)
def test_what_does_not_fit_is_computed_by_the_layers(settings):
    def layers():
        settings_ = {"padding": "same", "dtype": "float64"} | settings
        return (
            Conv2D(FILTERS, 3, **settings_),
            BatchNormalization(dtype="float64"),
        )

    x = random(0, 4, 6, 6, 2)
    ours = model_of(2, NormalizedConv2D(*layers()))
    theirs = model_of(2, *layers())
    np.testing.assert_array_equal(
        ours(x, training=True), theirs(x, training=True)
    )


def test_activity_regularizers_add_to_the_losses():
    x = random(9, 4, 6, 6, FEW)
    conv = {"activity_regularizer": "l2"}
    ours, theirs = together(FEW, **conv), of_keras(FEW, **conv)
    for model in (ours, theirs):
        model(x, training=True)
    assert len(ours.losses) == 1
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-9)


def test_half_precision_is_left_to_keras():
    layer = NormalizedConv2D(*pair("mixed_bfloat16"))
    x = tf.cast(random(0, 4, 6, 6, 2), tf.float32)
    outputs = layer(x, training=True)
    assert outputs.dtype == tf.bfloat16
    assert {v.dtype for v in layer.variables} == {"float32"}


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("channels", [FEW, MANY])
def test_one_trace_serves_every_number_of_examples(channels):
    model = together(channels)
    shape = [None, 6, 6, channels]
    second = tf.function(
        lambda x: derivatives(model, x, 2),
        input_signature=[tf.TensorSpec(shape, tf.float64)],
        autograph=False,
    )
    for examples in (2, 5):
        x = random(examples, examples, *shape[1:])
        assert_close(second(x), derivatives(model, x, 2))


@pytest.mark.usefixtures("size")
def test_nearly_constant_images_stay_finite():
    x = tf.fill([3, 6, 6, FEW], tf.constant(1e3, tf.float64))
    x += 1e-6 * random(0, *x.shape)
    assert np.isfinite(together(FEW)(x, training=True)).all()


def test_an_image_network_is_made_of_pairs():
    model = conv_net((8, 8, 1), 3, FILTERS)
    pairs = [x for x in model.layers if type(x) is NormalizedConv2D]
    assert len(pairs) == 4
    names = ["kernel", "bias", "beta", "moving_mean", "moving_variance"]
    assert [v.name for v in model.variables] == [
        *(4 * names),
        "kernel",
        "bias",
    ]
    adapts = [True, True, False]
    assert which_adapt(model) == [*(4 * adapts), True, True]
    assert use_exact_normalization(model) == []


def test_training_reaches_the_pair_inside_of_a_model():
    model = together(FEW)
    x = random(9, 4, 6, 6, FEW)
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    expected = apart(FEW)(x, training=True)
    np.testing.assert_allclose(predict(model, theta, x), expected, rtol=1e-9)


def test_a_model_with_it_can_be_cloned_saved_and_loaded(tmp_path):
    model = together(FEW, use_bias=False)
    model.layers[0].layers[1].trainable = False
    x = random(9, 4, 6, 6, FEW)
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    model.layers[0].save(tmp_path / "layer.keras")
    alone = keras.models.load_model(tmp_path / "layer.keras")
    assert type(alone) is NormalizedConv2D
    for other in (clone, loaded, alone):
        np.testing.assert_array_equal(other(x), model(x))
    for other in (clone, loaded):
        assert type(other.layers[0]) is NormalizedConv2D
        assert [type(x) for x in other.layers[0].layers] == [
            Conv2D,
            BatchNormalization,
        ]
        for ours, theirs in zip(
            other.layers[0].layers, model.layers[0].layers, strict=True
        ):
            assert ours.get_config() == theirs.get_config()
            assert ours.trainable == theirs.trainable


@pytest.mark.parametrize("compiled", [False, True])
def test_inputs_of_the_wrong_kind_are_named(compiled):
    layer = NormalizedConv2D(*pair())
    layer(random(0, 2, 6, 6, 3))
    call = tf.function(layer, autograph=False) if compiled else layer
    with pytest.raises(ValueError, match="axis -1 .* to have value 3"):
        call(random(0, 2, 6, 6, 2), training=True)
    with pytest.raises(ValueError, match="expected min_ndim=4, found ndim=3"):
        call(random(0, 6, 6, 3), training=True)


class Mine(BatchNormalization):
    pass


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            lambda: (keras.layers.Conv2D(2, 3), BatchNormalization()),
            r"convolution must be a maml_tf.Conv2D. Received: keras.*Conv2D\.",
        ),
        (
            lambda: (Conv2D(2, 3), keras.layers.BatchNormalization()),
            "normalization must be a maml_tf.BatchNormalization. Received: ke",
        ),
        (lambda: (Conv2D(2, 3), Mine()), "Received: .*Mine. Add other layers"),
        (
            lambda: (BatchNormalization(), Conv2D(2, 3)),
            "convolution must be a maml_tf.Conv2D",
        ),
        (
            lambda: (Conv2D(2, 3, activation="relu"), BatchNormalization()),
            "Received: activation='relu'. Put the activation behind",
        ),
        (
            lambda: (Conv2D(2, 3), BatchNormalization(axis=1)),
            "must normalize axis 3, .* Received: axis=1",
        ),
        (
            lambda: (
                Conv2D(2, 3, data_format="channels_first"),
                BatchNormalization(),
            ),
            "must normalize axis 1, .* Received: axis=-1",
        ),
    ],
)
def test_layers_that_make_no_pair_are_refused(layers, message):
    with pytest.raises(ConfigError, match=message):
        NormalizedConv2D(*layers())


def test_a_third_layer_is_refused():
    layer = NormalizedConv2D(*pair(), name="pair")
    with pytest.raises(ConfigError, match="Add third to the model behind it"):
        layer.add(keras.layers.ReLU(name="third"))
