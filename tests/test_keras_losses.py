"""Keras' losses by name and by object: the right value, or one clear line."""

import inspect
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses

from maml_tf.errors import ConfigError, DataError, ExperimentError
from maml_tf.learner.learner import Learner
from maml_tf.objectives.keras_losses import activation_of, takes

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 4)).astype("float32")
IMAGES = RNG.normal(size=(2, 3, 3, 2)).astype("float32")
LABELS = np.arange(6) % 3
ONE_HOT = np.eye(3, dtype="float32")[LABELS]
BITS = (RNG.random((6, 3)) > 0.5).astype("float32")
NUMBERS = RNG.normal(size=(6, 3)).astype("float32")
COUNTS = RNG.poisson(2.0, (6, 3)).astype("float32")
MASKS = (IMAGES[..., :1] > 0).astype("uint8")


def net(activation=None, units=3, *more):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(units, activation), *more]
    )


def pixels(activation=None, units=1):
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [keras.Input((3, 3, 2)), layers.Conv2D(units, 1, activation=activation)]
    )


def embedding():
    return net(None, 3, layers.UnitNormalization())


def recurrent():
    return net(None, 12, layers.Reshape((4, 3)))


def subclassed(activation):
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.layer = layers.Dense(3, activation)

        def call(self, x):
            return self.layer(x)

    model = Own()
    model(X)
    return model


class Smooth(losses.CategoricalCrossentropy):
    """A user's own."""


RIGHT = {
    "labels": (net, "sparse_categorical_crossentropy", LABELS),
    "labels of softmax": (
        lambda: net("softmax"),
        "SparseCategoricalCrossentropy",
        LABELS,
    ),
    "softmax as a layer": (
        lambda: net(None, 3, layers.Softmax(), layers.Reshape((3,))),
        "sparse_categorical_crossentropy",
        LABELS,
    ),
    "one-hot": (net, "categorical_crossentropy", ONE_HOT),
    "label smoothing": (
        net,
        losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
        ONE_HOT,
    ),
    "soft labels": (net, "categorical_crossentropy", ONE_HOT * 0.7 + 0.1),
    "focal": (net, "categorical_focal_crossentropy", ONE_HOT),
    "focal of softmax": (
        lambda: net("softmax"),
        losses.CategoricalFocalCrossentropy(),
        ONE_HOT,
    ),
    "bits": (net, "bce", BITS),
    "bits of sigmoid": (
        lambda: net("sigmoid"),
        losses.BinaryCrossentropy,
        BITS,
    ),
    "bits, Keras' function": (
        lambda: net("sigmoid"),
        losses.binary_crossentropy,
        BITS,
    ),
    "a column of bits": (lambda: net(None, 1), "bce", BITS[:, 0].astype(int)),
    "binary focal": (net, "binary_focal_crossentropy", BITS),
    "balanced binary focal": (
        net,
        losses.BinaryFocalCrossentropy(
            apply_class_balancing=True, from_logits=True
        ),
        BITS,
    ),
    "dice": (lambda: pixels("sigmoid"), "dice", MASKS),
    "dice of masks without channels": (
        lambda: pixels("sigmoid"),
        losses.Dice(),
        MASKS[..., 0],
    ),
    "dice of classes": (lambda: net("softmax"), "Dice", ONE_HOT),
    "tversky": (lambda: pixels("sigmoid"), losses.Tversky(0.3, 0.7), MASKS),
    "kl": (lambda: net("softmax"), "kld", ONE_HOT * 0.7 + 0.1),
    "generalized": (
        lambda: net("softmax"),
        losses.CategoricalGeneralizedCrossEntropy(q=0.4),
        LABELS,
    ),
    "hinge": (net, "hinge", BITS * 2 - 1),
    "hinge of bits": (net, "squared_hinge", BITS.astype(int)),
    "categorical hinge": (net, "categorical_hinge", ONE_HOT),
    "mse": (net, "MSE", NUMBERS),
    "mae of whole numbers": (
        net,
        "mean_absolute_error",
        COUNTS.astype("int64"),
    ),
    "mape": (net, "mape", NUMBERS + 5),
    "msle": (lambda: net("relu"), "msle", COUNTS),
    "huber": (net, losses.Huber(0.3), NUMBERS),
    "log cosh": (net, "log_cosh", NUMBERS),
    "cosine": (net, "cosine_similarity", NUMBERS),
    "poisson": (lambda: net("softplus"), "poisson", COUNTS),
    "circle": (embedding, losses.Circle(), LABELS),
    "a sum": (net, losses.MeanSquaredError(reduction="sum"), NUMBERS),
    "not reduced": (net, losses.MeanSquaredError(reduction=None), NUMBERS),
    "segmentation": (
        lambda: pixels(None, 2),
        "sparse_categorical_crossentropy",
        MASKS[..., 0],
    ),
    "a support set of one class": (
        lambda: pixels(None, 2),
        "sparse_categorical_crossentropy",
        np.zeros((2, 3, 3), int),
    ),
    "void": (
        lambda: pixels(None, 2),
        losses.SparseCategoricalCrossentropy(
            from_logits=True, ignore_class=255
        ),
        np.where(IMAGES[..., 1] > 0, 255, MASKS[..., 0]),
    ),
    "void is -1": (
        lambda: pixels(None, 2),
        losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1),
        np.where(IMAGES[..., 1] > 0, -1, MASKS[..., 0].astype(int)),
    ),
    "one-hot with void": (
        lambda: pixels(None, 2),
        "categorical_crossentropy",
        np.eye(3, 2, dtype="float32")[
            np.where(IMAGES[..., 1] > 0, 2, MASKS[..., 0])
        ],
    ),
    "a subclassed model": (
        lambda: subclassed(None),
        "categorical_crossentropy",
        ONE_HOT,
    ),
    "a loss of one's own": (
        lambda: net("softmax"),
        Smooth(label_smoothing=0.2),
        ONE_HOT,
    ),
}


def keras_loss(given, from_logits):
    """The loss object that a user means."""
    if isinstance(given, losses.Loss):
        return given
    function = losses.get(given)
    name = getattr(function, "__name__", type(function).__name__)
    kind = next(
        kind
        for found, kind in vars(losses).items()
        if found.lower() == name.replace("_", "").lower()
    )
    told = "from_logits" in inspect.signature(kind).parameters
    return kind(from_logits=from_logits) if told else kind()


@pytest.mark.parametrize(("make", "loss", "y"), RIGHT.values(), ids=RIGHT)
def test_the_loss_is_that_of_keras(make, loss, y):
    model = make()
    x = IMAGES if len(y) == len(IMAGES) else X
    adapted = Learner(model, loss, 1e-3).adapt(x, y, num_steps=2)
    outputs = model(x)
    logits = activation_of(model) not in ("softmax", "sigmoid")
    if y.ndim == outputs.ndim - 1 and outputs.shape[-1] == 1:
        y = y[..., None]
    expected = np.mean(keras_loss(loss, logits)(y, outputs))
    assert adapted.losses[0] == pytest.approx(float(expected), rel=1e-5)
    assert np.isfinite(adapted.losses).all()
    assert adapted.losses[1] < adapted.losses[0]


WRONG = {
    "no such loss": (net, "sme", NUMBERS, "Keras has no loss 'sme'"),
    "abstract": (net, "Loss", NUMBERS, "cannot be computed"),
    "several losses": (net, ["mse", "mae"], NUMBERS, "loss must be the name"),
    "a configuration": (net, {"class_name": "Dice"}, BITS, "loss must be the"),
    "probabilities as logits": (
        lambda: net("softmax"),
        losses.CategoricalFocalCrossentropy(from_logits=True),
        ONE_HOT,
        "are probabilities, but .*Take the softmax out",
    ),
    "sigmoid as logits": (
        lambda: net("sigmoid"),
        losses.BinaryCrossentropy(from_logits=True),
        BITS,
        "are probabilities, but .*Take the sigmoid out",
    ),
    "hidden softmax": (
        lambda: subclassed("softmax"),
        "sparse_categorical_crossentropy",
        LABELS,
        "are probabilities, but .* from_logits=False",
    ),
    "logits as probabilities": (
        net,
        losses.CategoricalFocalCrossentropy(),
        ONE_HOT,
        "with from_logits=False takes probabilities",
    ),
    "Keras' function of logits": (
        net,
        losses.binary_focal_crossentropy,
        BITS,
        "with from_logits=False takes probabilities.* in a sigmoid",
    ),
    "sigmoids as shares": (
        lambda: net("sigmoid"),
        "sparse_categorical_crossentropy",
        LABELS,
        "takes probabilities.* in a softmax",
    ),
    "dice of logits": (
        pixels,
        "dice",
        MASKS,
        "dice takes probabilities.* Let the network end in a sigmoid",
    ),
    "kl of logits": (net, "kld", ONE_HOT, "kld takes probabilities.*softmax"),
    "hinge of sigmoid": (
        lambda: net("sigmoid"),
        "hinge",
        BITS,
        "takes scores of either sign",
    ),
    "negative rates": (net, "poisson", COUNTS, "takes outputs of at least 0"),
    "vectors of any length": (
        net,
        "circle",
        LABELS,
        "vectors of length 1.*UnitNormalization",
    ),
    "one of each": (
        embedding,
        "circle",
        np.arange(6),
        "two examples of each",
    ),
    "one class": (
        lambda: net(None, 1),
        "categorical_crossentropy",
        ONE_HOT[:, :1] * 0 + 1,
        "one output. Use 'binary_crossentropy'",
    ),
    "one direction": (
        lambda: net(None, 1),
        "cosine_similarity",
        NUMBERS[:, :1],
        "the network has one output",
    ),
    "masks of 255": (
        lambda: pixels("sigmoid"),
        "dice",
        MASKS * 255,
        "from 0 to 255. .*y // 255",
    ),
    "masks of 255 as bits": (pixels, "bce", MASKS * 255.0, "y // 255"),
    "masks of 255 as labels": (
        lambda: pixels(None, 2),
        "sparse_categorical_crossentropy",
        MASKS[..., 0] * 255,
        "y // 255",
    ),
    "void without a word": (
        lambda: pixels(None, 2),
        "sparse_categorical_crossentropy",
        np.where(IMAGES[..., 1] > 0, 255, MASKS[..., 0]),
        "If 255 marks what has no class, .*ignore_class=255",
    ),
    "void of -1": (
        lambda: pixels(None, 2),
        "sparse_categorical_crossentropy",
        np.where(IMAGES[..., 1] > 0, -1, MASKS[..., 0].astype(int)),
        "ignore_class=-1",
    ),
    "another void": (
        lambda: pixels(None, 2),
        losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1),
        np.where(IMAGES[..., 1] > 0, 255, MASKS[..., 0]),
        "labels from 0 to 255",
    ),
    "signs as bits": (
        net,
        "bce",
        BITS * 2 - 1,
        r"from -1 to 1. .*\(y \+ 1\) / 2",
    ),
    "bits as three signs": (
        net,
        "hinge",
        np.sign(np.round(NUMBERS)),
        r"Received: targets \[-1.0, 0.0, 1.0\]",
    ),
    "numbers as bits": (net, "bce", NUMBERS, "loss of regression"),
    "several classes": (
        net,
        "categorical_crossentropy",
        np.ones((6, 3)),
        "a row adds up to 3.*binary_crossentropy",
    ),
    "a row without a class": (
        net,
        "categorical_crossentropy",
        ONE_HOT * 0,
        "a row adds up to 0",
    ),
    "labels as one-hot": (
        lambda: net("softmax"),
        "kld",
        np.tile(LABELS[:, None], 3),
        "sparse_categorical_crossentropy",
    ),
    "no percentage of 0": (net, "mape", NUMBERS * 0, "targets other than 0"),
    "no logarithm": (net, "msle", NUMBERS, "targets of at least 0"),
    "negative counts": (
        lambda: net("softplus"),
        "poisson",
        NUMBERS,
        "targets of at least 0",
    ),
    "classes along another axis": (
        lambda: pixels(None, 3),
        losses.CategoricalCrossentropy(from_logits=True, axis=1),
        np.tile(np.eye(3)[0], (2, 3, 3, 1)),
        "along another axis",
    ),
    "ctc in second order": (
        recurrent,
        "ctc",
        LABELS[:, None],
        "no second derivative in TensorFlow. Use first_order=True",
    ),
    "not enough columns": (net, "dice", BITS[:, :2], "do not fit dice"),
}


@pytest.mark.parametrize(
    ("make", "loss", "y", "message"), WRONG.values(), ids=WRONG
)
def test_what_does_not_fit_is_said(make, loss, y, message):
    x = IMAGES if len(y) == len(IMAGES) else X
    with pytest.raises((ConfigError, DataError), match=message):
        Learner(make(), loss, 0.1).adapt(x, y)


def test_sequences_learn_in_first_order():
    y = np.array([[1, 2], [2, 1], [1, 0], [2, 0], [1, 1], [2, 2]])
    learner = Learner(recurrent(), "ctc", 0.01, first_order=True)
    adapted = learner.adapt(X, y, num_steps=3)
    assert adapted.losses[2] < adapted.losses[0]
    expected = np.mean(losses.ctc(y, tf.constant(recurrent()(X))))
    assert adapted.losses[0] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(DataError, match="Labels must be 0, ..., 2"):
        learner.adapt(X, y + 1)
    with pytest.raises(ConfigError, match="time is at least the length"):
        Learner(recurrent(), "ctc", first_order=True).adapt(
            X, np.ones((6, 9), int)
        )


HEADS = {
    "linear": net,
    "softmax": lambda: net("softmax"),
    "sigmoid": lambda: net("sigmoid"),
    "unit": embedding,
    "one": lambda: net(None, 1),
}
TARGETS = (LABELS, ONE_HOT, BITS * 2 - 1, NUMBERS, NUMBERS[:, :1], COUNTS * 50)
NAMES = sorted(
    name
    for name, found in vars(losses).items()
    if inspect.isfunction(found) or inspect.isclass(found)
    if name not in ("get", "serialize", "deserialize")
)


@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
def test_any_loss_gives_a_value_or_one_line(head):
    refused, worked = [], set()
    for name, y in itertools.product(NAMES, TARGETS):
        for loss in (name, getattr(losses, name)):
            try:
                learner = Learner(HEADS[head](), loss, 1e-3, first_order=True)
                adapted = learner.adapt(X, y)
            except ExperimentError as e:
                refused.append(str(e))
            else:
                assert np.isfinite(adapted.losses).all()
                worked.add(name)
    assert not any("\n" in message for message in refused)
    assert {"mse", "MeanSquaredError"} & worked


def test_what_keras_losses_take_is_known():
    for name, kind in vars(losses).items():
        if inspect.isclass(kind) and kind is not losses.Loss:
            assert takes(kind()) is not None, name
