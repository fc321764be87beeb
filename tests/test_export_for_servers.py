"""What servers expect: default signatures, rows, image files, a version."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from test_image_inputs import FILES, REFUSED, exif, saved

from maml_tf import ImagePreparation, Learner, PrototypicalNetworks
from maml_tf.errors import ConfigError, ExportError
from maml_tf.export.image_bytes import prepared
from maml_tf.tasks.sources import tasks_from_folder

SIZE, WAYS = (9, 7), 3
NAMES = ["ant", "bee", "cat"]
IN_GRAPH = {
    name: content
    for name, (content, _) in FILES.items()
    if content.startswith((b"\xff\xd8", b"\x89PNG"))
}


def photograph(seed, height=41, width=30):
    """A picture with smooth and sharp parts."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.BICUBIC)
    noise = rng.integers(-30, 30, (height, width, 3))
    pixels = (np.asarray(smooth) + noise).clip(0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of three classes, JPEG and PNG, some held sideways."""
    root = tmp_path_factory.mktemp("photographs")
    for c, name in enumerate(NAMES):
        (root / name).mkdir()
        for i in range(2):
            image = photograph(2 * c + i)
            kind, suffix = ("PNG", "png") if i else ("JPEG", "jpg")
            content = saved(image, kind, exif=exif(6 if c else 1))
            (root / name / f"{i}.{suffix}").write_bytes(content)
    return root


def graph_of(prepare):
    return tf.function(
        lambda x: prepared(x, prepare, tf.float32),
        autograph=False,
        input_signature=[tf.TensorSpec([None], tf.string)],
    )


@pytest.fixture(scope="module", params=[(SIZE, 3), ((20, 50), 1)])
def both(request):
    """A preparation in Python, and the same as a graph."""
    prepare = ImagePreparation(*request.param)
    return prepare, graph_of(prepare)


class TestGraph:
    def test_files_give_pythons_pixels(self, both):
        prepare, graph = both
        found = graph(tf.constant(list(IN_GRAPH.values()))).numpy()
        for name, image in zip(IN_GRAPH, found, strict=True):
            np.testing.assert_array_equal(
                image, prepare(IN_GRAPH[name]), err_msg=name
            )

    @pytest.mark.parametrize("kind", ["JPEG", "PNG"])
    @pytest.mark.parametrize("size", [(41, 30), (9, 7), (3, 130), (200, 1)])
    def test_photographs_give_pythons_pixels(self, both, kind, size):
        prepare, graph = both
        content = saved(photograph(1, *size), kind, exif=exif(8))
        (found,) = graph(tf.constant([content])).numpy()
        np.testing.assert_array_equal(found, prepare(content))

    def test_white_is_the_preparations(self):
        prepare = ImagePreparation(SIZE, white=20_000)
        content = IN_GRAPH["16 bits RGB.png"]
        graph = graph_of(prepare)
        (found,) = graph(tf.constant([content])).numpy()
        np.testing.assert_array_equal(found, prepare(content))
        with pytest.raises(tf.errors.InvalidArgumentError, match="up to more"):
            graph(tf.constant([IN_GRAPH["16 bits.png"]]))

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("empty.png", "must be those of a JPEG or PNG file"),
            ("animated.webp", "must be those of a JPEG or PNG file"),
            ("cut.png", "PNG"),
            ("cut.jpg", "JPEG"),
            ("animated.png", "An image has several frames"),
            ("damaged EXIF.jpg", "EXIF data of an image is damaged"),
            ("cut EXIF.jpg", "EXIF data of an image is damaged"),
        ],
    )
    def test_other_bytes_are_refused(self, both, name, message):
        _, graph = both
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            graph(tf.constant([REFUSED[name][0]]))


@pytest.fixture(scope="module")
def photographs(folder):
    """A learner of photographs, its tasks, and its export."""
    tasks = tasks_from_folder(folder, WAYS, 1, size=SIZE)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((*SIZE, 3)),
            keras.layers.Conv2D(4, 3, 2),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dense(WAYS),
        ]
    )
    learner = Learner(model, "sparse_categorical_crossentropy", 0.2, 2)
    learner.evaluate(tasks, 1)
    return learner, tasks


@pytest.fixture(scope="module")
def exported(photographs, tmp_path_factory):
    learner, tasks = photographs
    path = tmp_path_factory.mktemp("exported") / "learner"
    learner.export(path, images=tasks.prepare, class_names=NAMES)
    return path


def files_of(folder, number, suffix):
    return [
        (folder / name / f"{number}.{suffix}").read_bytes() for name in NAMES
    ]


def test_image_files_give_the_numbers_of_python(
    photographs, exported, folder, tmp_path
):
    """Where neither maml_tf nor Keras can be imported."""
    learner, tasks = photographs
    support = files_of(folder, 0, "jpg")
    query = files_of(folder, 1, "png")
    adapted = learner.adapt(
        np.stack([tasks.prepare(x) for x in support]),
        np.arange(WAYS, dtype="int32"),
    )
    expected = adapted.predict(np.stack([tasks.prepare(x) for x in query]))
    adapted.export(
        tmp_path / "adapted", images=tasks.prepare, class_names=NAMES, version=3
    )
    both = f"{exported}|adapt_and_predict_image_bytes"
    one = f"{tmp_path / 'adapted' / '3'}|predict_image_bytes"
    np.savez(
        tmp_path / "calls.npz",
        **{
            # NumPy's strings lose zeros at the end, and files may end in them.
            f"{both}|support_image_bytes": np.array(support, object),
            f"{both}|query_image_bytes": np.array(query, object),
            f"{both}|support_targets": np.arange(WAYS, dtype=np.int32),
            f"{both}|num_updates": np.int32(2),
            f"{one}|image_bytes": np.array(query, object),
        },
    )
    serving = pathlib.Path(__file__).parent / "serving.py"
    done = subprocess.run(
        [sys.executable, serving, "calls.npz", "answers.npz"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers = np.load(tmp_path / "answers.npz", allow_pickle=True)
    for call in (both, one):
        np.testing.assert_allclose(
            answers[f"{call}|logits"], expected, rtol=1e-4, atol=1e-5
        )
        assert [x.decode() for x in answers[f"{call}|classes"]] == [
            NAMES[i] for i in expected.argmax(axis=1)
        ]


def test_every_signature_of_a_task_takes_image_files(
    photographs, exported, folder
):
    learner, tasks = photographs
    signatures = tf.saved_model.load(exported).signatures
    support = tf.constant(files_of(folder, 0, "jpg"))
    query = tf.constant(files_of(folder, 1, "png"))
    weights = signatures["adapt_image_bytes"](
        support_image_bytes=support,
        support_targets=tf.range(WAYS),
        num_updates=tf.constant(2),
    )
    found = signatures["predict_adapted_image_bytes"](
        query_image_bytes=query, support_image_bytes=support, **weights
    )
    inputs = np.stack([tasks.prepare(x) for x in support.numpy()])
    adapted = learner.adapt(inputs, np.arange(WAYS, dtype="int32"))
    queries = np.stack([tasks.prepare(x) for x in query.numpy()])
    np.testing.assert_allclose(
        found["logits"], adapted.predict(queries), rtol=1e-4, atol=1e-5
    )
    unadapted = signatures["predict_image_bytes"](
        query_image_bytes=query, support_image_bytes=support
    )
    np.testing.assert_allclose(
        unadapted["logits"],
        learner.adapt(inputs, np.arange(WAYS, dtype="int32"), 0).predict(
            queries
        ),
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_default_takes_rows_of_tasks(photographs, exported):
    """All tensors have the same first axis, as TensorFlow Serving's rows."""
    learner, tasks = photographs
    default = tf.saved_model.load(exported).signatures["serving_default"]
    task = tasks.tasks(0, 4)
    found = default(
        support_inputs=tf.constant(task.support.inputs),
        support_targets=tf.constant(task.support.targets),
        query_inputs=tf.constant(task.query.inputs),
    )
    for i in range(4):
        adapted = learner.adapt(task.support.inputs[i], task.support.targets[i])
        np.testing.assert_allclose(
            found["logits"][i],
            adapted.predict(task.query.inputs[i]),
            rtol=1e-4,
            atol=1e-5,
        )
    assert found["classes"].shape == (4, WAYS)


def test_the_json_says_what_is_inside(exported):
    content = json.loads((exported / "export.json").read_text())
    assert content.pop("maml_tf")
    assert content == {
        "format": 1,
        "kind": "classification",
        "method": "maml",
        "num_updates": 2,
        "class_names": NAMES,
        "images": {
            "formats": ["JPEG", "PNG"],
            "orientation": "turned upright by EXIF",
            "transparent": "white",
            "white": None,
            "height": 9,
            "width": 7,
            "resize": "Lanczos",
            "channels": 3,
            "scale": 1 / 255,
        },
    }


class TestAdapted:
    def test_the_default_takes_inputs_alone(self, photographs, tmp_path):
        learner, tasks = photographs
        support, query = tasks.tasks(0, 1)
        adapted = learner.adapt(support.inputs[0], support.targets[0])
        for statistics in ("support", "transductive"):
            path = tmp_path / statistics
            adapted.export(path, statistics=statistics)
            signatures = tf.saved_model.load(path).signatures
            assert set(signatures) == {"serving_default", "predict"}
            found = signatures["serving_default"](tf.constant(query.inputs[0]))
            assert set(found) == {"logits", "probabilities"}
            np.testing.assert_allclose(
                found["logits"],
                adapted.predict(query.inputs[0], statistics),
                rtol=1e-4,
                atol=1e-5,
            )
        said = json.loads((tmp_path / "support" / "export.json").read_text())
        assert said["adapted"]

    def test_labels_that_are_text_name_the_classes(self, photographs, tmp_path):
        learner, tasks = photographs
        support = tasks.tasks(0, 1).support
        labels = [NAMES[i] for i in support.targets[0]]
        learner.adapt(support.inputs[0], labels).export(tmp_path / "m")
        said = json.loads((tmp_path / "m" / "export.json").read_text())
        assert said["class_names"] == NAMES

    def test_joint_statistics_are_refused(self, photographs, tmp_path):
        learner, tasks = photographs
        support = tasks.tasks(0, 1).support
        adapted = learner.adapt(support.inputs[0], support.targets[0])
        with pytest.raises(ExportError, match="cannot take joint statistics"):
            adapted.export(tmp_path / "m", statistics="joint")

    def test_keras_loads_it(self, photographs, tmp_path):
        learner, tasks = photographs
        support, query = tasks.tasks(0, 1)
        adapted = learner.adapt(support.inputs[0], support.targets[0])
        adapted.export(tmp_path / "m")
        layer = keras.layers.TFSMLayer(
            tmp_path / "m", call_endpoint="serving_default"
        )
        np.testing.assert_allclose(
            layer(query.inputs[0])["logits"],
            adapted.predict(query.inputs[0]),
            rtol=1e-4,
            atol=1e-5,
        )

    def test_prototypes(self, folder, tmp_path):
        tasks = tasks_from_folder(folder, WAYS, 1, size=4)
        learner = Learner(
            keras.Sequential(
                [
                    keras.Input((4, 4, 3)),
                    keras.layers.Flatten(),
                    keras.layers.Dense(5),
                ]
            ),
            "sparse_categorical_crossentropy",
            method=PrototypicalNetworks(),
        )
        support, query = tasks.tasks(0, 1)
        adapted = learner.adapt(support.inputs[0], support.targets[0])
        adapted.export(tmp_path / "adapted", class_names=NAMES)
        learner.export(tmp_path / "learner")
        served = tf.saved_model.load(tmp_path / "adapted").signatures
        expected = adapted.predict(query.inputs[0])
        np.testing.assert_allclose(
            served["serving_default"](tf.constant(query.inputs[0]))["logits"],
            expected,
            rtol=1e-4,
            atol=1e-4,
        )
        served = tf.saved_model.load(tmp_path / "learner").signatures
        found = served["serving_default"](
            support_inputs=tf.constant(support.inputs),
            support_targets=tf.constant(support.targets),
            query_inputs=tf.constant(query.inputs),
        )
        np.testing.assert_allclose(
            found["logits"][0], expected, rtol=1e-4, atol=1e-4
        )
        with pytest.raises(ConfigError, match="an output for each class"):
            learner.export(tmp_path / "named", class_names=NAMES)


def several_outputs(kind):
    x = keras.Input((3,))
    hidden = keras.layers.Dense(4, "tanh")(x)
    one = keras.layers.Dense(1, name="one")(hidden)
    two = keras.layers.Dense(2, name="two")(hidden)
    outputs = {"dict": {"left eye": one, "b": two}, "list": [one, two]}[kind]
    return keras.Model(x, outputs)


@pytest.mark.parametrize(
    ("kind", "places"),
    [("dict", ["left eye", "b"]), ("list", [0, 1])],
)
def test_several_outputs(kind, places, tmp_path):
    def loss(targets, outputs):
        return tf.reduce_mean(
            [
                tf.reduce_mean((a - b) ** 2)
                for a, b in zip(
                    tf.nest.flatten(targets),
                    tf.nest.flatten(outputs),
                    strict=True,
                )
            ]
        )

    rng = np.random.default_rng(0)
    x = rng.normal(size=(5, 3)).astype("float32")
    one, two = (rng.normal(size=(5, n)).astype("float32") for n in (1, 2))
    y = {"dict": {"left eye": one, "b": two}, "list": [one, two]}[kind]
    learner = Learner(several_outputs(kind), loss, 0.1, 2)
    adapted = learner.adapt(x, y)
    learner.export(tmp_path / "learner")
    adapted.export(tmp_path / "adapted")
    names = [str(place).replace(" ", "_") for place in places]
    targets = {
        f"support_targets_{name}": y[place]
        for name, place in zip(names, places, strict=True)
    }
    found = tf.saved_model.load(tmp_path / "learner").signatures[
        "adapt_and_predict"
    ](support_inputs=x, query_inputs=x, num_updates=tf.constant(2), **targets)
    served = tf.saved_model.load(tmp_path / "adapted").signatures
    alone = served["serving_default"](tf.constant(x))
    expected = adapted.predict(x)
    assert set(found) == {f"predictions_{name}" for name in names}
    for name, place in zip(names, places, strict=True):
        for answers in (found, alone):
            np.testing.assert_allclose(
                answers[f"predictions_{name}"], expected[place], rtol=1e-5
            )


def test_without_batch_norm_no_signature_asks_for_support_inputs(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    learner = Learner(model, "mse")
    x, y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
    learner.adapt(x, y)
    learner.export(tmp_path / "m", statistics="support", num_steps=3)
    signatures = tf.saved_model.load(tmp_path / "m").signatures
    weights = signatures["adapt"](
        support_inputs=x, support_targets=y, num_updates=tf.constant(3)
    )
    found = signatures["predict_adapted"](query_inputs=x, **weights)
    default = signatures["serving_default"](
        support_inputs=x[None], support_targets=y[None], query_inputs=x[None]
    )
    np.testing.assert_allclose(
        default["predictions"][0], found["predictions"], rtol=1e-6
    )


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"images": True}, "images must be a maml_tf.ImagePreparation"),
            (
                {"images": ImagePreparation(8)},
                r"shape \(8, 8, 3\), but the model takes float32 \(9, 7, 3\)",
            ),
            ({"images": ImagePreparation(SIZE, 1)}, r"shape \(9, 7, 1\), but"),
            ({"class_names": ["a", "b"]}, "must be 3 different names"),
            ({"class_names": ["a", "b", "b"]}, "must be 3 different names"),
            ({"class_names": "abc"}, "must be 3 different names"),
            ({"class_names": ["a", "", "b"]}, "must be 3 different names"),
            ({"class_names": [1, 2, 3]}, "must be 3 different names"),
            ({"version": 0}, "version must be a whole number, at least 1"),
            ({"version": "1"}, "version must be a whole number"),
            ({"version": True}, "version must be a whole number"),
            ({"num_steps": -1}, "num_steps must be a whole number"),
        ],
    )
    def test_options_that_make_no_sense(
        self, photographs, tmp_path, options, message
    ):
        learner, tasks = photographs
        with pytest.raises(ConfigError, match=message):
            learner.export(tmp_path / "m", **options)
        if "num_steps" not in options:
            support = tasks.tasks(0, 1).support
            adapted = learner.adapt(support.inputs[0], support.targets[0])
            with pytest.raises(ConfigError, match=message):
                adapted.export(tmp_path / "m", **options)
        assert not (tmp_path / "m").exists()

    def test_class_names_need_a_classifier(self, tmp_path):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        learner = Learner(model, "mse")
        learner.adapt(np.ones((4, 2)), np.ones((4, 1)))
        with pytest.raises(
            ConfigError, match="class_names are for classifiers"
        ):
            learner.export(tmp_path / "m", class_names=["a"])

    def test_a_version_is_not_overwritten(self, tmp_path):
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        adapted = Learner(model, "mse").adapt(np.ones((4, 2)), np.ones((4, 1)))
        adapted.export(tmp_path / "m", version=1)
        with pytest.raises(ExportError, match="1 already exists"):
            adapted.export(tmp_path / "m", version=1)
        adapted.export(tmp_path / "m", version=2)
        assert sorted(p.name for p in (tmp_path / "m").iterdir()) == ["1", "2"]
        assert (tmp_path / "m" / "2" / "saved_model.pb").is_file()
