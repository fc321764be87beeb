"""Converted adaptation does on a phone what it does on a server."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.cli.main import main as start
from maml_tf.core.losses import cross_entropy_of_labels, mean_squared_error
from maml_tf.errors import ExportError
from maml_tf.export.litert import convert_adaptation
from maml_tf.export.litert_gradients import (
    gradient_of_average,
    gradient_of_maximum,
)
from maml_tf.export.saved_model import export_adaptation
from maml_tf.layers.convolution import Conv2D
from maml_tf.layers.normalization import BatchNormalization
from maml_tf.layers.normalized_convolution import NormalizedConv2D
from maml_tf.models import dense_net

NUM_SUPPORT, NUM_QUERY, WAYS = 4, 3, 2


def small_images(*layers):
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            *layers,
            keras.layers.ReLU(),
            Conv2D(3, 3, 2, "same"),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(WAYS),
        ]
    )


def export(path, model):
    if model.output_shape[-1] == WAYS:
        loss = cross_entropy_of_labels(model, WAYS)
        export_adaptation(path, model, loss, 0.3, kind="classification")
    else:
        export_adaptation(path, model, mean_squared_error(model), 0.3)


# TensorFlow's interpreter is LiteRT's, which has moved to a package.
@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
@pytest.mark.parametrize(
    "build",
    [
        lambda: dense_net(2, (8, 8), 1),
        lambda: small_images(
            NormalizedConv2D(
                Conv2D(3, 3, 2, "same"), BatchNormalization(scale=False)
            )
        ),
        lambda: small_images(
            Conv2D(3, 3, 2, "same"), BatchNormalization(scale=False)
        ),
        # A square of equal pixels has several maxima.
        lambda: small_images(
            Conv2D(3, 3, activation="relu"), keras.layers.MaxPooling2D(2)
        ),
        lambda: small_images(
            keras.layers.AveragePooling2D(3, 2, "same"),
            keras.layers.LeakyReLU(),
            Conv2D(3, 3, activation="elu"),
        ),
        # Keras' own convolutions.
        lambda: small_images(
            keras.layers.DepthwiseConv2D(3, depth_multiplier=2),
            keras.layers.Conv2D(2, 3, 2, "same"),
            keras.layers.Conv2DTranspose(1, 3),
        ),
    ],
)
def test_converted_adaptation_gives_equal_numbers(tmp_path, build):
    model = build()
    rng = np.random.default_rng(0)
    for v in model.trainable_variables:
        v.assign(v + 0.2 * rng.standard_normal(v.shape))
    export(tmp_path / "model", model)
    convert_adaptation(
        tmp_path / "model", tmp_path / "model.tflite", NUM_SUPPORT, NUM_QUERY
    )
    shape = model.input_shape[1:]
    targets = rng.standard_normal((NUM_SUPPORT, 1)).astype("float32")
    if model.output_shape[-1] == WAYS:
        targets = np.int32([0, 1, 1, 0])
    task = {
        "support_inputs": rng.random((NUM_SUPPORT, *shape), "float32"),
        "support_targets": targets,
        "query_inputs": rng.random((NUM_QUERY, *shape), "float32"),
    }
    interpreter = tf.lite.Interpreter(str(tmp_path / "model.tflite"))
    on_phone = interpreter.get_signature_runner("adapt_and_predict")
    loaded = tf.saved_model.load(tmp_path / "model")
    on_server = loaded.signatures["adapt_and_predict"]
    for num_updates in (0, 3):
        expected = on_server(**task, num_updates=tf.constant(num_updates))
        found = on_phone(**task, num_updates=np.int32(num_updates))
        assert set(found) == set(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_names_of_classes_are_left_out(tmp_path):
    model = dense_net(2, (4,), WAYS)
    loss = cross_entropy_of_labels(model, WAYS)
    names = {"kind": "classification", "class_names": ["a", "b"]}
    export_adaptation(tmp_path / "model", model, loss, 0.3, **names)
    file = tmp_path / "model.tflite"
    convert_adaptation(tmp_path / "model", file, NUM_SUPPORT, NUM_QUERY)
    interpreter = tf.lite.Interpreter(str(file))
    runner = interpreter.get_signature_runner("adapt_and_predict")
    assert set(runner.get_output_details()) == {"logits", "probabilities"}


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [Conv2D(2, 3), keras.layers.DepthwiseConv2D(2, name="deep")],
            r"no Depthwise\w+Input \(in \S*deep\S*\). Use maml_tf.Conv2D .*"
            "or convert the signature predict_adapted",
        ),
        (
            [keras.layers.Activation("gelu", name="bell")],
            r"no Erfc \(in \S*bell\S*\). Use another activation, such as relu",
        ),
        pytest.param(
            [
                keras.layers.Reshape((6, 6)),
                keras.layers.LSTM(16, name="time"),
                keras.layers.Reshape((4, 4, 1)),
            ],
            r"no TensorListReserve \(in \S*time\S*\). Use unroll=True",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_operation_in_the_way_is_named(tmp_path, layers, message):
    export(tmp_path / "model", small_images(*layers))
    with pytest.raises(ExportError, match=message) as refusal:
        convert_adaptation(tmp_path / "model", tmp_path / "m.tflite", 4, 1)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "m.tflite").exists()


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")
def test_weights_adapted_elsewhere_need_no_gradients(tmp_path):
    layers = [Conv2D(2, 3), keras.layers.DepthwiseConv2D(2)]
    export(tmp_path / "model", small_images(*layers))
    start(
        [
            "litert",
            str(tmp_path / "model"),
            str(tmp_path / "m.tflite"),
            "--num_query=3",
            "--signature=predict_adapted",
        ]
    )
    signatures = tf.saved_model.load(tmp_path / "model").signatures
    rng = np.random.default_rng(0)
    support = rng.random((4, 6, 6, 1), "float32")
    state = signatures["adapt"](
        support_inputs=tf.constant(support),
        support_targets=tf.constant([0, 1, 1, 0]),
        num_updates=tf.constant(2),
    )
    query = {"query_inputs": rng.random((3, 6, 6, 1), "float32")}
    expected = signatures["predict_adapted"](**state, **query)
    interpreter = tf.lite.Interpreter(str(tmp_path / "m.tflite"))
    call = interpreter.get_signature_runner("predict_adapted")
    weights = {name: value.numpy() for name, value in state.items()}
    found = call(**weights, **query)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6)


def test_signatures_that_are_not_there(tmp_path):
    export(tmp_path / "model", dense_net(2, (8,), 1))
    to = tmp_path / "m.tflite"
    with pytest.raises(ExportError, match="signature must be one of adapt_and"):
        convert_adaptation(tmp_path / "model", to, 4, 1, "serve")


WINDOWS = [
    (size, strides, padding, image)
    for size in ((2, 2), (3, 2))
    for strides in ((1, 1), (2, 2), (2, 3), (4, 4))
    for padding in ("SAME", "VALID")
    for image in ((6, 6), (7, 5))
]


@pytest.mark.parametrize(("size", "strides", "padding", "image"), WINDOWS)
def test_gradients_of_pools_are_those_of_tensorflow(
    size, strides, padding, image
):
    rng = np.random.default_rng(0)
    # Few values, so that most windows have several maxima.
    x = tf.constant(rng.integers(0, 3, (2, *image, 2)).astype("float32"))
    y = tf.nn.max_pool2d(x, size, strides, padding)
    dy = tf.constant(rng.standard_normal(y.shape).astype("float32"))
    settings = {
        "ksize": [1, *size, 1],
        "strides": [1, *strides, 1],
        "padding": padding,
    }
    attributes = tf.compat.v1.NodeDef().attr
    for name in ("ksize", "strides"):
        attributes[name].list.i.extend(settings[name])
    attributes["padding"].s = padding.encode()
    np.testing.assert_allclose(
        gradient_of_maximum(attributes)(x, y, dy),
        tf.raw_ops.MaxPoolGrad(
            orig_input=x, orig_output=y, grad=dy, **settings
        ),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        gradient_of_average(attributes)(tf.shape(x), dy),
        tf.raw_ops.AvgPoolGrad(
            orig_input_shape=tf.shape(x), grad=dy, **settings
        ),
        atol=1e-5,
    )


def test_only_an_exported_model_can_be_converted(tmp_path):
    with pytest.raises(ExportError, match="is not an exported model"):
        convert_adaptation(tmp_path, tmp_path / "m.tflite", 4, 1)
