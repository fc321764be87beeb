"""Tasks from folders, arrays, series, functions and datasets."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from maml_tf.datasets.class_splits import SPLITS
from maml_tf.errors import ConfigError, DataError
from maml_tf.learner.learner import Learner
from maml_tf.tasks.sources import (
    tasks_from_arrays,
    tasks_from_dataset,
    tasks_from_folder,
    tasks_from_function,
    tasks_from_series,
)

CLASSES, EACH = 12, 6


def equal(a, b):
    return all(
        np.array_equal(x, y)
        for x, y in zip(tf.nest.flatten(a), tf.nest.flatten(b), strict=True)
    )


@pytest.fixture
def folder(tmp_path):
    """Images whose red is the class and whose green is the image."""
    for c in range(CLASSES):
        (tmp_path / f"class {c:02}").mkdir()
        for j in range(EACH):
            image = Image.new("RGB", (9, 7), (20 * c, 40 * j, 0))
            image.save(tmp_path / f"class {c:02}" / f"{j}.png")
    return tmp_path


def labelled(num=CLASSES, each=EACH):
    """x holds the class and the example; y is shuffled."""
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(num), each))
    return np.stack([y, np.arange(len(y))], axis=1).astype("float32"), y


class TestFolder:
    def test_support_and_query_images_of_a_label_are_of_one_class(self, folder):
        stream = tasks_from_folder(folder, 3, 2, 4, size=5)
        support, query = stream.tasks(0, 4)
        assert support.inputs.shape == (4, 6, 5, 5, 3)
        assert support.inputs.dtype == np.float32
        assert query.targets.shape == (4, 12)
        assert support.targets.dtype == np.int32
        for i in range(4):
            for label in range(3):
                both = np.concatenate(
                    [
                        part.inputs[i][part.targets[i] == label]
                        for part in (support, query)
                    ]
                )
                assert len(np.unique(both[..., 0])) == 1
                assert len(np.unique(both[:, 0, 0, 1])) == EACH
                name = stream.class_names(i)[label]
                red = 20 * int(name.removeprefix("class ")) / 255
                assert both[0, 0, 0, 0] == pytest.approx(red)

    def test_a_task_depends_on_its_number_and_the_seed(self, folder):
        stream = tasks_from_folder(folder, 3, 1, size=2)
        some, one = stream.tasks(3, 2), stream.tasks(4, 1)
        assert equal(tf.nest.map_structure(lambda x: x[1:], some), one)
        other = tasks_from_folder(folder, 3, 1, size=2, seed=1)
        assert not equal(one, other.tasks(4, 1))

    def test_splits_share_no_class(self, folder):
        names = {
            split: tasks_from_folder(folder, 2, 1, size=2, split=split)
            for split in SPLITS
            if split != "validation"
        }
        found = {
            split: {n for i in range(99) for n in stream.class_names(i)}
            for split, stream in names.items()
        }
        assert not found["train"] & found["test"]
        assert len(found["train"]) == 9
        assert len(found["test"]) == 2

    def test_folders_of_splits_are_taken_as_they_are(self, folder):
        for split in ("train", "test"):
            (folder / split).mkdir()
        for i, path in enumerate(sorted(folder.glob("class*"))):
            path.rename(folder / ("test" if i < 3 else "train") / path.name)
        stream = tasks_from_folder(folder, 3, 1, size=2, split="test")
        assert sorted(stream.class_names(0)) == [
            "class 00",
            "class 01",
            "class 02",
        ]
        with pytest.raises(DataError, match="choose one: split='train'"):
            tasks_from_folder(folder, 3, 1, size=2)

    def test_grey_is_the_brightness(self, folder):
        stream = tasks_from_folder(folder, 12, 1, 1, size=2, channels=1)
        image = stream.tasks(0, 1).support.inputs[0, 0, 0, 0]
        name = stream.class_names(0)[0]
        red = 20 * int(name.removeprefix("class "))
        green = np.arange(EACH) * 40
        possible = np.round(0.299 * red + 0.587 * green) / 255
        assert np.abs(possible - image).min() < 1e-6

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"num_ways": 13}, DataError, "13 classes, but there are 12"),
            (
                {"num_shots": 4},
                DataError,
                r"needs 8 .* class 00 \(6\),",
            ),
            ({"num_ways": 1}, ConfigError, "num_ways must be .* at least 2"),
            ({"channels": 4}, ConfigError, "channels must be 1 or 3"),
            ({"split": "val"}, ConfigError, "split must be one of"),
        ],
    )
    def test_what_cannot_be_drawn_is_refused(
        self, folder, arguments, error, message
    ):
        with pytest.raises(error, match=message):
            tasks_from_folder(folder, **({"num_ways": 2} | arguments), size=2)

    def test_folders_that_cannot_be_used(self, tmp_path):
        with pytest.raises(DataError, match="is not a directory"):
            tasks_from_folder(tmp_path / "none")
        with pytest.raises(DataError, match="holds no classes; expected is"):
            tasks_from_folder(tmp_path)
        (tmp_path / "a").mkdir()
        Image.new("L", (3, 3)).save(tmp_path / "a" / "0.png")
        with pytest.raises(DataError, match=r"one class only \(a\)"):
            tasks_from_folder(tmp_path)
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "0.png").write_bytes(b"no image")
        with pytest.raises(DataError, match="1 of 2 files cannot be used"):
            tasks_from_folder(tmp_path, 2)


class TestArrays:
    def test_labels_follow_the_classes(self):
        x, y = labelled()
        support, query = tasks_from_arrays(x, y, 4, 2, 3).tasks(5, 8)
        for part, each in ((support, 2), (query, 3)):
            assert part.inputs.dtype == np.float32
            assert (
                part.targets.tolist()
                == [np.repeat(range(4), each).tolist()] * 8
            )
        classes = support.inputs[:, ::2, 0]
        np.testing.assert_array_equal(support.inputs[:, 1::2, 0], classes)
        np.testing.assert_array_equal(query.inputs[:, ::3, 0], classes)
        for i in range(8):
            used = [*support.inputs[i, :, 1], *query.inputs[i, :, 1]]
            assert len(set(used)) == len(used)

    def test_any_dtype_structure_and_names(self):
        x, y = labelled()
        inputs = {"a": x.astype("uint8"), "b": x[:, :1].astype("float16")}
        names = np.array(["red", "blue"])[y % 2]
        stream = tasks_from_arrays(inputs, names, 2, 1)
        support = stream.tasks(0, 1).support
        assert support.inputs["a"].dtype == np.uint8
        assert support.inputs["b"].shape == (1, 2, 1)
        assert sorted(stream.class_names(0)) == ["blue", "red"]

    @pytest.mark.parametrize(
        ("x", "y", "message"),
        [
            (np.ones((3, 2)), np.eye(3), "For one-hot labels give y.argmax"),
            (np.ones((3, 2)), np.array([0.5, 1, 2]), "integers or strings"),
            (np.ones((4, 2)), np.arange(3), "the same number of examples"),
            (np.ones((3, 2)), np.zeros(3, int), "one class only"),
            (np.full((3, 2), np.nan), np.arange(3), "not finite: nan at index"),
        ],
    )
    def test_what_is_no_labelled_data_is_refused(self, x, y, message):
        with pytest.raises(DataError, match=message):
            tasks_from_arrays(x, y, 2, 1)

    def test_too_few_classes_to_split(self):
        with pytest.raises(DataError, match="There are 2 classes; at least 3"):
            tasks_from_arrays(*labelled(2), 2, 1, split="train")


class TestSeries:
    CSV = "id,t,level,y\n" + "".join(
        f"{name},{t},{10 * s},{s + t}\n"
        for s, name in enumerate("abcd")
        for t in range(5)
    )

    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "series.csv"
        path.write_text(self.CSV)
        return path

    def test_points_of_a_task_are_of_one_series(self, file):
        support, query = tasks_from_series(file, 2, 3).tasks(0, 9)
        assert support.inputs.shape == (9, 2, 2)
        assert query.targets.shape == (9, 3, 1)
        for part in (support, query):
            levels = part.inputs[..., 1]
            assert (levels == levels[:, :1]).all()
            np.testing.assert_array_equal(
                part.targets[..., 0], levels / 10 + part.inputs[..., 0]
            )
        times = np.concatenate([support.inputs, query.inputs], 1)[..., 0]
        np.testing.assert_array_equal(
            np.sort(times), np.tile(np.arange(5), (9, 1))
        )

    def test_columns_can_be_chosen(self, file):
        stream = tasks_from_series(
            file, 1, columns=("id", ["t"], ["y", "level"])
        )
        assert stream.tasks(0, 1).support.targets.shape == (1, 1, 2)

    def test_arrays_give_the_same_as_a_file(self, file):
        series = [
            (
                np.stack([np.arange(5.0), np.full(5, 10.0 * s)], 1),
                s + np.arange(5.0)[:, None],
            )
            for s in range(4)
        ]
        one = tasks_from_series(file, 2, 3).tasks(2, 4)
        assert equal(one, tasks_from_series(series, 2, 3).tasks(2, 4))

    def test_series_that_cannot_be_used(self):
        with pytest.raises(DataError, match="must be pairs"):
            tasks_from_series([(np.ones(3), np.ones(2))], 1)
        short = [(np.ones(9), np.ones(9)), (np.ones(3), np.ones(3))]
        with pytest.raises(DataError, match=r"needs 4 .* series .* 1 \(3\)"):
            tasks_from_series(short, 2)


class TestSmallGroups:
    SIZES = {"a": 9, "b": 2, "c": 4, "d": 1, "e": 3, "f": 9, "g": 2}

    def data(self):
        y = np.repeat(list(self.SIZES), list(self.SIZES.values()))
        return np.arange(len(y))[:, None], y

    def test_all_are_named(self):
        with pytest.raises(
            DataError,
            match=r"needs 4 .*; 4 of 7 have fewer: b \(2\), d \(1\), "
            r"e \(3\), g \(2\)\. .* drop_small=True",
        ):
            tasks_from_arrays(*self.data(), 3, 2)

    def test_they_can_be_left_out(self, caplog):
        x, y = self.data()
        stream = tasks_from_arrays(x, y, 3, 2, drop_small=True)
        assert stream.left_out == {"b": 2, "d": 1, "e": 3, "g": 2}
        assert "4 of 7 have fewer: b (2), d (1)" in caplog.text
        found = {name for i in range(20) for name in stream.class_names(i)}
        assert found == {"a", "c", "f"}
        task = stream.tasks(0, 5)
        for i in range(5):
            names = np.array(stream.class_names(i))
            for part in task:
                np.testing.assert_array_equal(
                    y[part.inputs[i, :, 0]], names[part.targets[i]]
                )
        with pytest.raises(DataError, match=r"are 3 to draw from \(4 left out"):
            tasks_from_arrays(x, y, 4, 2, drop_small=True)

    def test_the_others_stay_in_their_split(self):
        x, y = labelled(30, 4)
        few = np.delete(np.arange(len(y)), np.flatnonzero(y == 3)[:2])

        def names(x, y, split):
            stream = tasks_from_arrays(
                x, y, 2, 1, 2, split=split, drop_small=True
            )
            return set(stream.groups.names), set(stream.left_out)

        for split in SPLITS:
            whole, _ = names(x, y, split)
            kept, left_out = names(x[few], y[few], split)
            assert kept | left_out == whole
            assert left_out == whole & {"3"}

    def test_series(self):
        series = [(np.ones(n), np.ones(n)) for n in (2, 5, 1, 5)]
        with pytest.raises(DataError, match=r"0 \(2\), 2 \(1\)"):
            tasks_from_series(series, 2, 1)
        stream = tasks_from_series(series, 2, 1, drop_small=True)
        assert stream.left_out == {"0": 2, "2": 1}

    def test_folders(self, folder):
        (folder / "class 03" / "0.png").unlink()
        with pytest.raises(DataError, match=r"class 03 \(5\)\. Lower"):
            tasks_from_folder(folder, 2, 3, size=2)
        stream = tasks_from_folder(folder, 2, 3, size=2, drop_small=True)
        assert stream.left_out == {"class 03": 5}


def numbered(seed):
    x = np.full((2, 1), seed, "float32")
    return (x, x), (x, -x)


def test_a_function_gets_other_seeds_for_other_splits():
    seeds = {
        split: set(
            tasks_from_function(numbered, split=split)
            .tasks(0, 50)
            .support.inputs[:, 0, 0]
        )
        for split in SPLITS
    }
    assert all(len(s) == 50 for s in seeds.values())
    assert not seeds["train"] & seeds["validation"] | (
        seeds["train"] & seeds["test"]
    )


def test_tasks_of_different_sizes_are_refused():
    def task(seed):
        x = np.zeros((2 + seed % 2, 1))
        return (x, x), (x, x)

    with pytest.raises(DataError, match="different numbers of examples: 2, 3"):
        tasks_from_function(task).tasks(0, 4)


def test_what_is_no_task_is_refused():
    with pytest.raises(DataError, match=r"must be \(support, query\)"):
        tasks_from_function(lambda seed: seed).tasks(0, 2)
    with pytest.raises(ConfigError, match="function must be callable"):
        tasks_from_function(3)
    with pytest.raises(ConfigError, match="split must be one of"):
        tasks_from_function(numbered, split=None)


def test_a_dataset_is_read_in_order_again_and_again():
    dataset = tf.data.Dataset.range(5).map(
        lambda i: tuple(
            (tf.fill([2, 1], i + k), tf.fill([2, 1], -i)) for k in (0, 1)
        )
    )
    stream = tasks_from_dataset(dataset)

    def numbers(first, count):
        return stream.tasks(first, count).support.inputs[:, 0, 0].tolist()

    assert numbers(0, 3) == [0, 1, 2]
    assert numbers(0, 2) == [0, 1]  # asked for before
    assert numbers(2, 4) == [2, 3, 4, 0]
    assert numbers(13, 2) == [3, 4]  # ahead
    assert numbers(1, 1) == [1]  # back to the beginning


class Counted:
    """A dataset of numbered tasks, and how many were read of it."""

    def __init__(self, size=10**6):
        self.read = 0

        def elements():
            for i in range(size):
                self.read += 1
                x = np.full((2, 1), i, "float32")
                yield (x, x), (x, x)

        part = (tf.TensorSpec((2, 1)), tf.TensorSpec((2, 1)))
        self.stream = tasks_from_dataset(
            tf.data.Dataset.from_generator(
                elements, output_signature=(part, part)
            )
        )

    def numbers(self, first, count):
        task = self.stream.tasks(first, count)
        return task.query.inputs[:, 0, 0].tolist()


def test_pieces_of_training_read_each_task_once():
    counted = Counted()
    for first in range(0, 100, 10):
        assert counted.numbers(first, 5) == list(range(first, first + 5))
        assert counted.numbers(first, 20) == list(range(first, first + 20))
        counted.numbers(0, 3)  # validation on the same stream
    assert counted.read <= 110 + 10 * 3 + 20


def test_fit_in_pieces_reads_on():
    counted, reads = Counted(), []
    learner = Learner(
        keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]),
        "mse",
        alpha=1e-12,
    )
    for _ in range(4):
        before = counted.read
        learner.fit(
            counted.stream,
            50,
            meta_batch_size=2,
            optimizer=keras.optimizers.SGD(0.0),
            progress=False,
        )
        reads.append(counted.read - before)
    assert max(reads) <= 100 + 64


def test_a_dataset_that_ends_says_so_once(caplog):
    counted = Counted(3)
    assert counted.numbers(0, 7) == [0, 1, 2, 0, 1, 2, 0]
    assert counted.numbers(0, 4) == [0, 1, 2, 0]
    (record,) = [r for r in caplog.records if "starts over" in r.getMessage()]
    assert "ended after 3," in record.getMessage()


def test_datasets_that_are_read_once_only_or_fail():
    x = np.ones((2, 1), "float32")
    part = (tf.TensorSpec((2, 1)), tf.TensorSpec((2, 1)))

    def dataset(generator):
        return tasks_from_dataset(
            tf.data.Dataset.from_generator(
                generator, output_signature=(part, part)
            )
        )

    once = iter([((x, x), (x, x))] * 3)
    stream = dataset(lambda: once)
    stream.tasks(0, 2)
    for _ in range(2):
        with pytest.raises(DataError, match="read once only"):
            stream.tasks(2, 2)

    def fails():
        yield (x, x), (x, x)
        raise ValueError("no more disk; sorry")

    with pytest.raises(DataError, match="failed at task 1: .*sorry") as refusal:
        dataset(fails).tasks(0, 2)
    assert "\n" not in str(refusal.value)
    with pytest.raises(DataError, match="failed at task 0") as refusal:
        dataset(lambda: iter([((x, x), (x, x[:1]))])).tasks(0, 2)
    assert "\n" not in str(refusal.value)


def test_datasets_that_cannot_be_used():
    with pytest.raises(ConfigError, match="must be a tf.data.Dataset"):
        tasks_from_dataset([1, 2])
    empty = tasks_from_dataset(tf.data.Dataset.range(0))
    with pytest.raises(DataError, match="dataset of tasks is empty"):
        empty.tasks(0, 1)
