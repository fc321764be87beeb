"""Converted adaptation does on a phone what it does on a server."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.losses import cross_entropy_of_labels, mean_squared_error
from maml_tf.errors import ExportError
from maml_tf.export.litert import convert_adaptation
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


def test_the_operation_in_the_way_is_named(tmp_path):
    pooled = small_images(Conv2D(3, 3, 2, "same"), keras.layers.MaxPooling2D(2))
    export(tmp_path / "model", pooled)
    with pytest.raises(ExportError, match="LiteRT has no MaxPoolGrad"):
        convert_adaptation(tmp_path / "model", tmp_path / "m.tflite", 4, 1)
    assert not (tmp_path / "m.tflite").exists()


def test_only_an_exported_model_can_be_converted(tmp_path):
    with pytest.raises(ExportError, match="is not an exported model"):
        convert_adaptation(tmp_path, tmp_path / "m.tflite", 4, 1)
