"""Exported models do what the engine does, and refuse what it cannot."""

import concurrent.futures
import dataclasses
import pathlib
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from examples import serve as serve_example
from maml_tf.core import losses, prediction
from maml_tf.core.batch import Batch
from maml_tf.core.maml import adapt
from maml_tf.errors import ConfigError, ExportError
from maml_tf.export.saved_model import export_adaptation
from maml_tf.export.signatures import weight_names
from maml_tf.layers.convolution import Conv2D
from maml_tf.layers.normalization import BatchNormalization, which_adapt
from maml_tf.layers.normalized_convolution import NormalizedConv2D
from maml_tf.learner.learner import Learner
from maml_tf.models import conv_net, dense_net
from maml_tf.tasks.sources import tasks_from_arrays

WAYS = 3
IMAGE = (16, 16, 1)


@dataclasses.dataclass
class Case:
    """A model to export, and the engine's answers.

    Attributes:
        model: the network, with weights of its own.
        loss: of what the server gets.
        settings: of the export.
    """

    model: keras.Model
    loss: Callable
    alpha: Any = 0.1
    settings: dict = dataclasses.field(default_factory=dict)

    @property
    def classifies(self):
        return self.settings.get("kind") == "classification"

    @property
    def by_support(self):
        return self.settings.get("statistics") == "support"

    def export(self, path):
        settings = {"adapts": which_adapt(self.model)} | self.settings
        export_adaptation(path, self.model, self.loss, self.alpha, **settings)

    def task(self, seed, num_support, num_query):
        """Support set and query inputs as tensors of the signatures."""
        rng = np.random.default_rng(seed)

        def inputs(count):
            shape = (count, *self.model.inputs[0].shape[1:])
            return rng.standard_normal(shape).astype("float32")

        targets = rng.standard_normal((num_support, 1)).astype("float32")
        if self.classifies:
            targets = (np.arange(num_support) % WAYS).astype("int32")
        return {
            "support_inputs": inputs(num_support),
            "support_targets": targets,
            "query_inputs": inputs(num_query),
        }

    def adapted(self, task, num_updates):
        """The engine's weights after the updates."""
        support = Batch(task["support_inputs"], task["support_targets"])
        return adapt(
            self.loss,
            [tf.convert_to_tensor(v) for v in self.model.trainable_variables],
            [support] * num_updates,
            self.alpha,
            adapts=which_adapt(self.model),
        ).iterates[-1]

    def predicted(self, theta, task):
        """The engine's predictions for the query set."""
        outputs = prediction.predict(
            self.model,
            theta,
            task["query_inputs"],
            reference=task["support_inputs"] if self.by_support else None,
        )
        if not self.classifies:
            return {"predictions": outputs}
        return {"logits": outputs, "probabilities": tf.nn.softmax(outputs)}

    def asked(self, task):
        """The tensors that a signature which only predicts takes."""
        names = ["query_inputs", *(["support_inputs"] * self.by_support)]
        return {name: task[name] for name in names}


def regression(norm=None, **settings):
    model = dense_net(2, (8, 8), 1, norm)
    perturb(model)
    return Case(model, losses.mean_squared_error(model), settings=settings)


def classification(statistics="transductive"):
    model = conv_net(IMAGE, WAYS, num_filters=4)
    perturb(model)
    return Case(
        model,
        losses.cross_entropy_of_labels(model, WAYS),
        settings={"kind": "classification", "statistics": statistics},
    )


def perturb(model):
    """Weights of which none is 0 or equal to another."""
    rng = np.random.default_rng(7)
    for v in model.trainable_variables:
        v.assign(v + 0.2 * rng.standard_normal(v.shape))


CASES = {
    "dense": regression,
    "dense, batch norm of the support set": lambda: regression(
        "batch_norm", statistics="support"
    ),
    "convolutions": lambda: classification(),
    "convolutions, batch norm of the support set": lambda: classification(
        statistics="support"
    ),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """By name: a case and its directory; made when first asked for."""
    made = {}

    def get(name):
        if name not in made:
            case = CASES[name]()
            path = tmp_path_factory.mktemp("exported") / "model"
            case.export(path)
            made[name] = case, path
        return made[name]

    return get


def serve(path, signature, **tensors):
    function = tf.saved_model.load(path).signatures[signature]
    return function(**{k: tf.constant(v) for k, v in tensors.items()})


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        scale = float(np.abs(value).max())
        np.testing.assert_allclose(
            found[name], value, rtol=1e-4, atol=2e-5 * scale
        )


@pytest.mark.parametrize("name", CASES)
def test_all_signatures_give_the_engines_numbers(exported, name):
    case, path = exported(name)
    signatures = tf.saved_model.load(path).signatures
    for seed, num_support, num_query, num_updates in (
        (1, WAYS, 4, 0),
        (2, 2 * WAYS, 1, 3),
    ):
        task = case.task(seed, num_support, num_query)
        theta = case.adapted(task, num_updates)
        expected = case.predicted(theta, task)
        support = {k: task[k] for k in ("support_inputs", "support_targets")}
        updates = tf.constant(num_updates)
        assert_same(
            signatures["adapt_and_predict"](**task, num_updates=updates),
            expected,
        )
        weights = signatures["adapt"](**support, num_updates=updates)
        assert_same(
            weights,
            {
                name: t
                for name, t, moves in zip(
                    weight_names(case.model),
                    theta,
                    which_adapt(case.model),
                    strict=True,
                )
                if moves
            },
        )
        assert_same(
            signatures["predict_adapted"](**weights, **case.asked(task)),
            expected,
        )
        assert_same(
            signatures["predict"](**case.asked(task)),
            case.predicted(case.adapted(task, 0), task),
        )


def test_the_same_numbers_without_maml_tf_and_keras(exported, tmp_path):
    calls, expected = {}, {}
    for name in (
        "dense",
        "convolutions, batch norm of the support set",
    ):
        case, path = exported(name)
        task = case.task(3, WAYS, 2)
        answers = case.predicted(case.adapted(task, 3), task)
        call = f"{path}|adapt_and_predict"
        updates = {"num_updates": np.int32(3)}
        calls |= {f"{call}|{k}": v for k, v in (task | updates).items()}
        expected |= {f"{call}|{k}": v for k, v in answers.items()}
    np.savez(tmp_path / "calls.npz", **calls)
    serving = pathlib.Path(__file__).parent / "serving.py"
    done = subprocess.run(
        [sys.executable, serving, "calls.npz", "answers.npz"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert_same(np.load(tmp_path / "answers.npz"), expected)


# TensorFlow's command line, once for each argument.
SAVED_MODEL_CLI = """
import sys
from tensorflow.python.tools import saved_model_cli
for words in sys.argv[1:]:
    sys.argv[1:] = words.split()
    try:
        saved_model_cli.main()
    except SystemExit as end:
        if end.code:
            raise
"""


def test_saved_model_cli_shows_and_runs_it(exported, tmp_path):
    case, path = exported("convolutions")
    task = case.task(3, WAYS, 2)
    np.savez(tmp_path / "task.npz", num_updates=np.int32(2), **task)
    names = [*task, "num_updates"]
    common = f"--dir {path} --tag_set serve --signature_def adapt_and_predict"
    inputs = ";".join(f"{n}=task.npz[{n}]" for n in names)
    lines = f"show {common}", f"run {common} --inputs {inputs} --outdir ."
    done = subprocess.run(
        [sys.executable, "-c", SAVED_MODEL_CLI, *lines],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for name in (*names, "logits", "probabilities"):
        assert f"puts['{name}']" in done.stdout
    assert "shape: (-1, 16, 16, 1)" in done.stdout
    expected = case.predicted(case.adapted(task, 2), task)
    assert_same(
        {name: np.load(tmp_path / f"{name}.npy") for name in expected}, expected
    )


def test_a_batch_of_tasks_is_each_of_them(exported):
    for name in ("dense", "convolutions, batch norm of the support set"):
        case, path = exported(name)
        tasks = [case.task(seed, 2 * WAYS, 4) for seed in range(3)]
        stacked = {k: np.stack([t[k] for t in tasks]) for k in tasks[0]}
        answers = serve(
            path, "adapt_and_predict_batch", num_updates=2, **stacked
        )
        each = [case.predicted(case.adapted(t, 2), t) for t in tasks]
        assert_same(
            answers, {k: np.stack([e[k] for e in each]) for k in each[0]}
        )


def test_threads_at_once_get_their_own_answers(exported):
    case, path = exported("convolutions")
    function = tf.saved_model.load(path).signatures["adapt_and_predict"]
    tasks = [case.task(seed, WAYS * (1 + seed % 2), 3) for seed in range(12)]

    def call(task):
        return function(**task, num_updates=tf.constant(2))

    alone = [call(task) for task in tasks]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(call, tasks))
    for one, other in zip(alone, together, strict=True):
        assert_same(one, other)


# What is changed in a call that fits, and what the graph says to it.
REFUSED = {
    "label too large": (
        {"support_targets": np.int32([0, 1, 3])},
        r"support_targets must be class numbers, 0 to 2. Received:\] \[0 1 3\]",
    ),
    "label too small": (
        {"support_targets": np.int32([0, 1, -1])},
        r"support_targets must be class numbers, 0 to 2",
    ),
    "fewer labels": (
        {"support_targets": np.int32([0, 1])},
        r"support_targets must hold as many examples as support_inputs. "
        r"Received:\] \[2\] \[3\]",
    ),
    "labels of several tasks": (
        {"support_targets": np.int32([[0, 1, 2]])},
        r"support_targets \[1,3\] is not compatible with expected shape \[\?\]",
    ),
    "empty support set": (
        {
            "support_inputs": np.zeros((0, *IMAGE), "float32"),
            "support_targets": np.zeros(0, "int32"),
        },
        r"support_inputs must hold at least one example",
    ),
    "empty query set": (
        {"query_inputs": np.zeros((0, *IMAGE), "float32")},
        r"query_inputs must hold at least one example",
    ),
    "one image alone": (
        {"query_inputs": np.zeros(IMAGE, "float32")},
        r"query_inputs \[16,16,1\] is not compatible with expected shape "
        r"\[\?,16,16,1\]",
    ),
    "image of another size": (
        {"support_inputs": np.zeros((3, 16, 15, 1), "float32")},
        r"support_inputs \[3,16,15,1\] is not compatible with expected shape",
    ),
    "not finite": (
        {"support_inputs": np.full((3, *IMAGE), np.nan, "float32")},
        r"support_inputs must be finite",
    ),
    "infinite": (
        {"query_inputs": np.full((3, *IMAGE), np.inf, "float32")},
        r"query_inputs must be finite",
    ),
    "negative updates": (
        {"num_updates": -1},
        r"num_updates must be 0 or more. Received:\] \[-1\]",
    ),
}


@pytest.fixture(scope="module")
def served(exported):
    case, path = exported("convolutions")
    return case, tf.saved_model.load(path).signatures


def refusal(function, tensors):
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        function(**{k: tf.constant(v) for k, v in tensors.items()})
    return str(error.value)


@pytest.mark.parametrize("name", REFUSED)
def test_the_graph_refuses_in_words(served, name):
    case, signatures = served
    changed, expected = REFUSED[name]
    fits = case.task(0, 3, 2) | {"num_updates": 1}
    said = refusal(signatures["adapt_and_predict"], fits | changed)
    assert re.search(expected, said)


def test_a_batch_of_tasks_refuses_in_words(served):
    case, signatures = served
    tasks = [case.task(seed, 3, 2) for seed in range(2)]
    fits = {k: np.stack([t[k] for t in tasks]) for k in tasks[0]}
    fits["num_updates"] = 1
    for changed, expected in (
        (
            {"query_inputs": fits["query_inputs"][:1]},
            "must hold as many tasks as query_inputs. Received:] [2] [1]",
        ),
        (
            {"support_targets": fits["support_targets"][:, :2]},
            "support_targets must hold as many examples as support_inputs",
        ),
    ):
        function = signatures["adapt_and_predict_batch"]
        assert expected in refusal(function, fits | changed)


def test_weights_of_another_shape_or_not_finite_are_refused(served):
    case, signatures = served
    task = case.task(0, 3, 2)
    query = task.pop("query_inputs")
    weights = signatures["adapt"](**task, num_updates=tf.constant(1))
    function = signatures["predict_adapted"]
    name = min(weights)
    for value, expected in (
        (weights[name][:-1], "is not compatible with expected shape"),
        (weights[name] * np.nan, f"{name} must be finite"),
    ):
        said = refusal(
            function, {**weights, name: value, "query_inputs": query}
        )
        assert expected in said


def test_a_step_size_for_each_parameter(tmp_path):
    case = regression()
    case.alpha = [0.1, 0.2, tf.fill([8, 8], 0.05), 0.0, 0.3, 0.1]
    case.export(tmp_path / "model")
    task = case.task(0, 5, 4)
    assert_same(
        serve(tmp_path / "model", "adapt_and_predict", num_updates=2, **task),
        case.predicted(case.adapted(task, 2), task),
    )


def two_inputs():
    a, b = keras.Input((2,), name="a"), keras.Input((3,), name="b")
    x = keras.layers.Concatenate()([a, keras.layers.Dense(2)(b)])
    return keras.Model({"a": a, "b": b}, keras.layers.Dense(1)(x))


def recurrent():
    return keras.Sequential(
        [
            keras.Input((None, 2)),
            keras.layers.GRU(3),
            keras.layers.Dense(1),
        ]
    )


@pytest.mark.parametrize(
    ("build", "inputs"),
    [
        (two_inputs, {"a": (4, 2), "b": (4, 3)}),
        (recurrent, (4, 6, 2)),
    ],
)
def test_other_models(tmp_path, build, inputs):
    model = build()
    rng = np.random.default_rng(0)

    def draw(shape):
        return rng.standard_normal(shape).astype("float32")

    shapes = inputs if isinstance(inputs, dict) else {"": inputs}
    x = {name: draw(shape) for name, shape in shapes.items()}
    flat = {f"_{name}" if name else "": value for name, value in x.items()}
    x = x if isinstance(inputs, dict) else x[""]
    y = draw((4, 1))
    loss = losses.mean_squared_error(model)
    export_adaptation(tmp_path / "model", model, loss, 0.1)
    answers = serve(
        tmp_path / "model",
        "adapt_and_predict",
        **{f"support_inputs{name}": value for name, value in flat.items()},
        **{f"query_inputs{name}": value[:3] for name, value in flat.items()},
        support_targets=y,
        num_updates=2,
    )
    theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
    adapted = adapt(loss, theta, [Batch(x, y)] * 2, 0.1).iterates[-1]
    query = tf.nest.map_structure(lambda t: t[:3], x)
    predictions = prediction.predict(model, adapted, query)
    assert_same(answers, {"predictions": predictions})


def test_weights_are_named_by_the_layers():
    layers = [keras.layers.Dense(1, name=name) for name in ("a.b", "a-b")]
    model = keras.Sequential([keras.Input((1,)), *layers], name="net")
    assert weight_names(model) == [
        "a_b_kernel",
        "a_b_bias",
        "a_b_kernel_1",
        "a_b_bias_1",
    ]


def test_weights_of_a_normalized_convolution_are_named_by_its_two_layers():
    pair = NormalizedConv2D(
        Conv2D(2, 3, name="conv"),
        BatchNormalization(scale=False, name="norm"),
        name="pair",
    )
    inner = keras.Sequential([pair], name="backbone")
    model = keras.Sequential([keras.Input((4, 4, 1)), inner], name="net")
    assert [v.path for v in model.trainable_variables] == [
        "net/backbone/pair/conv/kernel",
        "net/backbone/pair/conv/bias",
        "net/backbone/pair/norm/beta",
    ]
    assert weight_names(model) == [
        "backbone_conv_kernel",
        "backbone_conv_bias",
        "backbone_norm_beta",
    ]


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path):
    case = regression()
    (tmp_path / "notes").write_text("mine")
    for path in (tmp_path, tmp_path / "notes"):
        with pytest.raises(ExportError, match="already exists"):
            case.export(path)

    def broken(theta, batch):
        raise RuntimeError("no loss")

    case.loss = broken
    with pytest.raises(RuntimeError, match="no loss"):
        case.export(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["notes"]


def test_an_empty_directory_is_filled(tmp_path):
    (tmp_path / "model").mkdir()
    regression().export(tmp_path / "model")
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert "saved_model.pb" in [p.name for p in (tmp_path / "model").iterdir()]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(1)

    def call(self, x):
        return self.head(x)


def test_a_subclassed_model_needs_inputs(tmp_path):
    model = Subclassed()
    x = np.ones((2, 3), "float32")
    model(x)
    loss = losses.mean_squared_error(model)
    with pytest.raises(ValueError, match="Pass inputs"):
        export_adaptation(tmp_path / "model", model, loss, 0.1)
    export_adaptation(tmp_path / "model", model, loss, 0.1, inputs=x)
    answers = serve(tmp_path / "model", "predict", query_inputs=x)
    assert_same(answers, {"predictions": model(x)})


def test_probabilities_of_a_model_that_ends_in_softmax(tmp_path):
    model = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(WAYS, activation="softmax")]
    )
    loss = losses.supervised(
        model, keras.losses.SparseCategoricalCrossentropy()
    )
    export_adaptation(
        tmp_path / "model",
        model,
        loss,
        0.1,
        kind="classification",
        from_logits=False,
    )
    x = np.ones((2, 2), "float32")
    answers = serve(tmp_path / "model", "predict", query_inputs=x)
    assert_same(answers, {"probabilities": model(x)})


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"kind": "ranking"}, "kind must be one of"),
        ({"statistics": "running"}, "statistics must be one of"),
    ],
)
def test_invalid_settings_are_refused(tmp_path, settings, expected):
    case = regression()
    case.settings = settings
    with pytest.raises(ValueError, match=expected):
        case.export(tmp_path / "model")


@pytest.mark.parametrize(
    "name", ["dense", "convolutions, batch norm of the support set"]
)
def test_the_example_adapts_once_and_answers_many_times(exported, capsys, name):
    case, path = exported(name)
    task = case.task(0, WAYS, 4)
    signatures = tf.saved_model.load(path).signatures
    model = serve_example.AdaptedModel(
        signatures, task["support_inputs"], task["support_targets"], 2
    )
    expected = case.predicted(case.adapted(task, 2), task)
    assert_same(model(task["query_inputs"]), expected)
    serve_example.main(str(path))
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 + serve_example.NUM_QUERIES
    assert all(next(iter(expected)) in line for line in said[1:])


class TestOfALearner:
    @pytest.fixture(params=["sparse", "categorical"])
    def classifier(self, request):
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(8), 4)
        x = rng.standard_normal((32, 5)) + labels[:, None]
        tasks = tasks_from_arrays(x, labels, 3, 1, 2)
        if request.param == "categorical":
            indices = tasks

            class OneHot:
                def tasks(self, first, count):
                    return tf.nest.map_structure(
                        lambda x: (
                            np.eye(3, dtype="float32")[x]
                            if x.dtype.kind == "i"
                            else x
                        ),
                        indices.tasks(first, count),
                    )

            tasks = OneHot()
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((5,)),
                keras.layers.Dense(6),
                keras.layers.BatchNormalization(),
                keras.layers.ReLU(),
                keras.layers.Dense(3),
            ]
        )
        learner = Learner(
            model,
            {
                "sparse": "sparse_categorical_crossentropy",
                "categorical": "categorical_crossentropy",
            }[request.param],
            0.3,
            2,
            learn_alpha=True,
        )
        perturb(model)
        for v in learner.method_variables:  # as if they had been learned
            v.assign(v * rng.uniform(0.5, 2, v.shape))
        return learner, tasks.tasks(0, 1)

    def test_it_answers_like_the_adapted_model(
        self, classifier, request, tmp_path
    ):
        learner, task = classifier
        kind = request.node.callspec.params["classifier"]
        statistics = "support" if kind == "sparse" else "transductive"
        support, query = (
            tf.nest.map_structure(lambda x: x[0], batch) for batch in task
        )
        adapted = learner.adapt(support.inputs, support.targets)
        learner.export(tmp_path / "exported", statistics=statistics)
        served = tf.saved_model.load(str(tmp_path / "exported"))
        labels = support.targets
        if labels.ndim == 2:
            labels = labels.argmax(axis=1)
        found = served.signatures["adapt_and_predict"](
            support_inputs=tf.constant(support.inputs, tf.float32),
            support_targets=tf.constant(labels, tf.int32),
            query_inputs=tf.constant(query.inputs, tf.float32),
            num_updates=tf.constant(2),
        )
        np.testing.assert_allclose(
            found["logits"],
            adapted.predict(query.inputs, statistics=statistics),
            rtol=1e-4,
            atol=1e-5,
        )

    def test_before_it_saw_data_it_is_refused(self, tmp_path):
        learner = Learner(dense_net(1, (2,), 1), "mse")
        with pytest.raises(ConfigError, match="Call fit, evaluate or adapt"):
            learner.export(tmp_path / "exported")
