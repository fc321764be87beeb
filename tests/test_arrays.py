"""Labels, examples and step sizes as they come."""

import collections
import decimal
import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import maml_tf
from maml_tf.errors import ConfigError, DataError
from maml_tf.learner.learner import Learner
from maml_tf.methods.reptile import Reptile
from maml_tf.tasks.arrays import as_array, as_classes, as_floats, as_whole
from maml_tf.tasks.sources import (
    tasks_from_arrays,
    tasks_from_function,
    tasks_from_series,
)

Y = np.array([2, 0, 1, 2, 0, 1])
NAMES = ["red", "blue", "green", "red", "blue", "green"]
ANIMALS = ["c", "a", "b", "c", "a", "b"]  # Y, in the order of the alphabet


class Column:
    """What pandas' columns are to NumPy: something with `__array__`."""

    def __init__(self, values, dtype=None):
        self.values = np.array(values, dtype)

    def __array__(self, dtype=None, copy=None):
        return self.values


class NAType:
    """pandas.NA, by the name of its type."""


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (Y, Y),
        (Y.astype("uint8"), Y),
        (Y.astype("int8"), Y),
        (Y.astype("uint64"), Y),
        (Y.astype(">i4"), Y),
        (Y.astype("float32"), Y),
        (Y.astype("float64"), Y),
        (Y.tolist(), Y),
        (tuple(Y), Y),
        (list(map(float, Y)), Y),
        (Y[:, None], Y),
        (Y[:, None].tolist(), Y),
        (Y.astype(object), Y),
        (np.array([float(v) for v in Y], object), Y),
        (np.array([decimal.Decimal(int(v)) for v in Y], object), Y),
        (tf.constant(Y), Y),
        (tf.constant(Y, tf.uint8), Y),
        (Column(Y), Y),
        (Column(Y, object), Y),
        (Column(Y, float), Y),
        (Y > 1, (Y > 1).astype(str)),
        (np.array((Y > 1).tolist(), object), (Y > 1).astype(str)),
        (NAMES, NAMES),
        (np.array(NAMES), NAMES),
        (np.array(NAMES, object), NAMES),
        (np.array(NAMES, object)[:, None], NAMES),
        (np.array(NAMES, bytes), NAMES),
        (np.array([n.encode() for n in NAMES], object), NAMES),
        (tf.constant(NAMES), NAMES),
        (Column(NAMES, object), NAMES),
        (np.array(NAMES, np.dtypes.StringDType()), NAMES),
        (np.ma.array(Y, mask=False), Y),
    ],
)
def test_a_class_for_each_example(y, expected):
    found = as_classes(y)
    assert found.dtype.kind in "iuU"
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.eye(3), "For one-hot labels give y.argmax"),
        (np.eye(3)[None], "a class for each example"),
        (np.ones((3, 2)), r"shape \(3, 2\)\.$"),
        (np.array(3), "a class for each example"),
        (Y / 2, "in which 0.5 is no class"),
        (np.array([0, 1, np.nan]), "in which nan is no class"),
        (np.array([0, 1, np.inf]), "in which inf is no class"),
        ([0, 1, None], r"missing: None at index \(2,\)"),
        (np.array(["a", np.nan], object), r"missing: nan at index \(1,\)"),
        (np.array([1, NAType()], object), r"missing: .*NAType.* at index"),
        (np.array(["a", 1], object), "of int, str"),
        (np.ma.array(Y, mask=Y > 1), "masked values"),
        ([[0, 1], [2]], "different lengths cannot be stacked"),
        (Y.astype("datetime64[s]"), "Dates and times"),
        (Y + 1j, "complex128"),
        (np.array([b"\xff"]), "must be text in UTF-8"),
        (np.array([2**70], object), "larger than 64 bits"),
        ({1, 2}, "object, shape .*, of set"),
        (tf.ragged.constant([[1], [2, 3]]), "different lengths|object"),
    ],
)
def test_what_is_no_class(y, message):
    with pytest.raises(DataError, match=message):
        as_classes(y)


def test_columns_of_arrays_are_stacked():
    column = np.empty(2, object)
    column[:] = [np.ones(3), [1, 2, 3]]
    assert as_array(column).tolist() == [[1, 1, 1], [1, 2, 3]]
    column[1] = np.ones(2)
    with pytest.raises(DataError, match=r"different lengths .* \(2,\), \(3,\)"):
        as_array(column)
    column[:] = ["ab", [1]]
    with pytest.raises(DataError, match="cannot be in one array"):
        as_array(column)


def test_whole_numbers():
    assert as_whole(np.array([1.0, -2.0])).dtype == np.int32
    assert as_whole(np.array([2**31])).dtype == np.int64
    assert as_whole(np.array([0.5])) is None
    assert as_whole(np.array([np.nan])) is None
    assert as_whole(np.array([2**64 - 1], "uint64")) is None
    assert as_whole(np.array([], "float64")).dtype == np.int32


MINUTES = 60.0 * np.arange(20)[:, None]


@pytest.mark.parametrize(
    "x",
    [
        1700000000 + MINUTES,
        (1700000000 + MINUTES).astype(int),
        np.hstack([MINUTES, 1700000000 + MINUTES]),
        2460000.5 + MINUTES / 86400,
        1700000000 + MINUTES.ravel(),
        (1 + 1e-9 * np.arange(9.0)),
        np.append(0, 1700000000 + MINUTES.ravel()),
    ],
)
def test_digits_that_float32_would_lose(x):
    with pytest.raises(DataError, match="inputs lose their digits in float32"):
        as_floats(x, "float32", "inputs")
    assert as_floats(x, "float64", "inputs").tolist() == x.tolist()


@pytest.mark.parametrize(
    "x",
    [
        MINUTES,
        1700000000 + 3600 * MINUTES,
        np.full(9, 1700000000.1),
        np.array([0.1 + 0.2, 0.3, 0.3 + 1e-16]),
        101325 + np.random.default_rng(0).normal(size=(500, 2)) * 50,
        np.random.default_rng(0).normal(size=(500, 2)) * 1e9,
        np.array([np.nan, np.inf, 1e300]),
        np.arange(256, dtype="uint8"),
        np.array([2**40, 2**41]),
        np.zeros((0, 3)),
    ],
)
def test_digits_that_float32_keeps(x):
    found = as_floats(x, "float32", "inputs")
    assert found.dtype == np.float32
    finite = np.abs(x) < 1e30
    np.testing.assert_allclose(found[finite], x[finite], rtol=1e-6)


X = np.random.default_rng(0).integers(9, size=(6, 4))
TASKS = tasks_from_arrays(X.repeat(2, axis=0), Y.repeat(2), 3, 1)


def learner(loss="sparse_categorical_crossentropy", units=3):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
    return Learner(model, loss, alpha=0.1)


@pytest.fixture(scope="module")
def fitted():
    used = learner()
    used.fit(TASKS, 1, meta_batch_size=2, optimizer="sgd", progress=False)
    return used


@pytest.fixture(scope="module")
def loaded(fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "learner"
    fitted.save(path)
    return Learner.load(path)


@pytest.fixture(params=["fresh", "fitted", "loaded"])
def make(request):
    """A learner of three classes: new, after `fit`, and after `load`."""
    if request.param == "fresh":
        return learner
    used = request.getfixturevalue(request.param)
    return lambda: used


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (X, Y),
        (X.astype("uint8"), Y.astype("uint8")),
        (X.astype("int8"), Y.astype("int16")),
        (X.astype("float16"), Y.astype("float16")),
        (X.astype("float64"), Y.astype("float64")),
        (X.astype(">f8"), Y.astype(">i8")),
        (X.tolist(), Y.tolist()),
        (list(X), list(Y)),
        (tuple(map(tuple, X)), tuple(Y)),
        (X.astype(object), Y.astype(object)),
        (X, Y[:, None]),
        (X, Y[:, None].astype(float)),
        (tf.constant(X), tf.constant(Y)),
        (Column(X), Column(Y, object)),
        (np.asfortranarray(X), Y[::-1][::-1]),
        (list(X), [np.array([label]) for label in Y]),
        (X, ANIMALS),
        (X, np.array(ANIMALS, object)),
        (X, np.array(ANIMALS)[:, None]),
        (X, tf.constant(ANIMALS)),
    ],
)
def test_a_support_set_as_it_comes(make, x, y):
    """The numbers are what counts, on any learner."""
    used = make()
    expected = used.adapt(X.astype("float32"), Y.astype("int32"))
    adapted = used.adapt(x, y)
    np.testing.assert_array_equal(adapted.theta[0], expected.theta[0])
    np.testing.assert_array_equal(adapted.predict(x), expected.predict(X))
    assert adapted.evaluate(x, y) == expected.evaluate(X, Y)


@pytest.mark.parametrize(("x", "y"), [(X, Y), (X.tolist(), ANIMALS)])
def test_tasks_after_a_support_set_as_it_comes(x, y):
    used = learner()
    used.adapt(x, y)
    found = used.evaluate(TASKS, 2).values["loss"]
    expected = learner().evaluate(TASKS, 2).values["loss"]
    np.testing.assert_array_equal(found, expected)


def test_names_are_answered_with(make):
    adapted = make().adapt(X, np.array(NAMES, object), num_steps=5)
    assert adapted.classes == ("blue", "green", "red")
    outputs = adapted.predict(X)
    expected = np.array(adapted.classes)[outputs.argmax(axis=1)]
    np.testing.assert_array_equal(adapted.classify(X), expected)
    assert adapted.evaluate(X[:1], ["red"]).keys() == {"loss"}
    with pytest.raises(DataError, match="pink is none of .* blue, green, red"):
        adapted.evaluate(X[:1], ["pink"])
    with pytest.raises(DataError, match="numbers, but .* text. Give some of"):
        adapted.evaluate(X[:1], [0])
    numbered = make().adapt(X, Y)
    assert numbered.classes is None
    found = numbered.classify(X)
    np.testing.assert_array_equal(found, numbered.predict(X).argmax(axis=1))
    with pytest.raises(DataError, match="text, but those .* numbers"):
        numbered.evaluate(X[:1], ["red"])


def test_tasks_whose_targets_are_text():
    def task(seed, labels):
        order = np.random.default_rng(seed).permutation(6)
        part = X[order] + 0.1 * seed, np.array(labels)[order]
        return part, part

    found, expected = (
        learner().evaluate(
            tasks_from_function(functools.partial(task, labels=labels)), 3
        )
        for labels in (ANIMALS, Y)
    )
    np.testing.assert_array_equal(found.values["loss"], expected.values["loss"])
    unknown = tasks_from_function(
        lambda seed: (task(seed, ANIMALS)[0], task(seed, NAMES)[0])
    )
    with pytest.raises(DataError, match="is none of the support set's classes"):
        learner().evaluate(unknown, 2)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ({"a": Y}, "takes one array of targets. Received: dict"),
        ((Y, Y), "same number of examples"),
        (None, "A value is missing"),
        ([], "same number of examples"),
        ([Y, Y[:2]], "cannot be stacked"),
        (iter(Y), "of .*iterator"),
        (np.full(6, 2**64 - 1, "uint64"), "integer labels|must be like"),
    ],
)
def test_targets_that_are_none(make, y, message):
    with pytest.raises(DataError, match=message):
        make().adapt(X, y)


def test_losses_that_take_no_names():
    with pytest.raises(DataError, match="the loss does not take classes"):
        learner("mse").adapt(X, NAMES)
    with pytest.raises(DataError, match="loss takes two classes.*names 3"):
        learner("binary_crossentropy", 1).adapt(X, NAMES)
    two = ["no", "yes"] * 3
    adapted = learner("binary_crossentropy", 1).adapt(X, two, num_steps=10)
    expected = np.where(adapted.predict(X)[:, 0] > 0, "yes", "no")
    np.testing.assert_array_equal(adapted.classify(X), expected)
    with pytest.raises(ConfigError, match="no loss of classification"):
        learner("mse", 4).adapt(X, X).classify(X)


def test_integers_of_a_regression_are_numbers():
    used = learner("mse", 4)
    first = used.adapt(X, X.astype("int64"))
    for y in (X.astype("float32"), X.tolist(), X.astype("uint8")):
        np.testing.assert_array_equal(used.adapt(X, y).theta[0], first.theta[0])
    assert used.spec.targets.dtype == used.spec.inputs.dtype == tf.float32


def test_columns_and_rows_of_one_output():
    used = learner("mse", 1)
    first = used.adapt(X, Y)
    for y in (Y[:, None], Y.tolist(), Y.astype(float)):
        np.testing.assert_array_equal(used.adapt(X, y).theta[0], first.theta[0])
    assert first.evaluate(X, Y[:, None]) == first.evaluate(X, Y)


def test_structures_of_inputs():
    a, b = (keras.Input((2,), name=name) for name in "ab")
    model = keras.Model([b, a], keras.layers.Dense(1)(a) + b[:, :1])
    used = Learner(model, "mse")
    first = used.adapt([X[:, :2], X[:, 2:].astype(float)], Y)
    again = used.adapt([X[:, :2].astype("uint8"), X[:, 2:].astype("uint8")], Y)
    np.testing.assert_array_equal(again.theta[0], first.theta[0])
    with pytest.raises(DataError, match="inputs must be like"):
        used.adapt(X, Y)


def test_tokens_stay_integers():
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            keras.layers.Embedding(9, 2),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    used = Learner(model, "sparse_categorical_crossentropy")
    first = used.adapt(X, Y)
    assert used.spec.inputs.dtype == tf.int32
    again = used.adapt(X.astype("float64"), Y)
    np.testing.assert_array_equal(again.theta[0], first.theta[0])
    with pytest.raises(DataError, match="inputs must be like .*: int32"):
        used.adapt(X + 0.5, Y)


def test_lists_of_examples():
    x = [np.full((2, 3), i) for i in range(6)]
    found = tasks_from_arrays(x, NAMES, 3, 1, 1).tasks(0, 1)
    assert found.support.inputs.shape == (1, 3, 2, 3)
    pair = [np.arange(6), list(range(6))]
    found = tasks_from_arrays((np.arange(6), np.ones((6, 2))), Y, 3, 1, 1)
    assert found.tasks(0, 1).support.inputs[1].shape == (1, 3, 2)
    with pytest.raises(DataError, match="same number of examples"):
        tasks_from_arrays(np.array(pair), Y, 3, 1)
    with pytest.raises(DataError, match="Text has to be encoded"):
        tasks_from_arrays(NAMES, Y, 3, 1)
    ones = [[1.0], [2.0]]
    task = tasks_from_function(lambda seed: ((ones, [0, 1]),) * 2).tasks(0, 3)
    assert task.support.inputs.shape == (3, 2, 1)
    assert task.query.targets.tolist() == [[0, 1]] * 3


def test_series_of_integers_and_lists():
    series = [([1, 2, 3], [[0.5], [1], [2]]), (np.arange(3), np.ones((3, 1)))]
    task = tasks_from_series(series, 1, 2).tasks(0, 2)
    assert task.query.targets.shape == (2, 2, 1)


class TestNumbersOfNumPy:
    """Counts and step sizes, such as a search over a grid gives."""

    def test_they_are_numbers(self, tmp_path):
        used = Learner(
            learner().model,
            "sparse_categorical_crossentropy",
            alpha=np.float32(0.1),
            num_steps=np.int64(2),
            adapts=lambda v: np.bool_("kernel" in v.path),
        )
        stream = tasks_from_arrays(
            X.repeat(2, axis=0),
            Y.repeat(2),
            np.int64(3),
            np.uint8(1),
            np.int32(1),
            seed=np.int64(3),
        )
        used.fit(
            stream,
            np.int64(2),
            meta_batch_size=np.int32(2),
            steps_per_epoch=np.int64(1),
            directory=tmp_path / "run",
            optimizer="sgd",
            progress=False,
        )
        used.save(tmp_path / "saved")
        loaded = Learner.load(tmp_path / "saved")
        assert loaded.iterations == 2
        assert loaded.method == used.method
        expected = used.adapt(X, Y, 3, 0.25).theta[0]
        for size in (np.float32(0.25), tf.constant(0.25)):
            found = loaded.adapt(X, Y, np.int64(3), size).theta[0]
            np.testing.assert_array_equal(found, expected)
        used.evaluate(stream, np.int64(2), np.int64(1), alpha=np.float32(0.1))

    def test_methods_take_them(self):
        method = Reptile(
            alpha=np.float32(0.1),
            num_steps=np.int64(2),
            inner_batch_size=np.int64(2),
        )
        used = Learner(
            learner().model, "sparse_categorical_crossentropy", method=method
        )
        assert used.adapt(X, Y).losses

    @pytest.mark.parametrize(
        "alpha",
        [
            float("nan"), -0.1, float("inf"), np.float32("nan"), np.float32(-1),
            "0.1", True, tf.constant(-0.1), np.array([0.1, 0.1]), [0.1],
            [0.1, -0.1], [0.1, float("nan")], [np.full((4, 3), np.nan), 0.1],
            [np.ones(3), 0.1], {"a": 0.1},
        ],
    )  # fmt: skip
    def test_step_sizes_that_make_no_sense(self, make, alpha):
        used = make()
        with pytest.raises(ConfigError, match="alpha"):
            used.adapt(X, Y, alpha=alpha)
        with pytest.raises(ConfigError, match="alpha"):
            used.evaluate(TASKS, 2, alpha=alpha)
        for arguments in ({"alpha": alpha}, {"alpha": alpha, "learn_alpha": 1}):
            with pytest.raises(ConfigError, match="alpha must be a positive"):
                Learner(used.model, "mse", **arguments)

    @pytest.mark.parametrize("alpha", [float("nan"), -0.1, [-0.1], np.inf])
    def test_the_engine_refuses_them_too(self, alpha):
        def loss(theta, data):
            return tf.reduce_sum(theta[0] * data)

        with pytest.raises(ValueError, match="alpha must be finite and not"):
            maml_tf.inner_update(loss, [tf.ones(2)], tf.ones(2), alpha)

    def test_step_sizes_for_each_variable(self):
        used = learner()
        expected = used.adapt(X, Y, alpha=0.25).theta[0]
        for size in (0.25, np.full((4, 3), 0.25), tf.fill([4, 3], 0.25)):
            found = used.adapt(X, Y, alpha=[size, 0]).theta[0]
            np.testing.assert_allclose(found, expected, rtol=1e-6)

    @pytest.mark.parametrize("seed", [-1, 2**64, None, 0.5])
    def test_seeds_that_make_no_sense(self, seed):
        with pytest.raises(ConfigError, match="seed must be"):
            tasks_from_arrays(X, Y, 3, 1, 1, seed=seed)


def test_tuples_with_names_stay_what_they_are():
    pair = collections.namedtuple("pair", "a b")
    found = tasks_from_arrays(pair(np.arange(6), np.arange(6)), Y, 3, 1, 1)
    assert found.tasks(0, 1).support.inputs._fields == ("a", "b")
