"""Tasks of images: balanced, disjoint, reproducible, turned alike."""

import itertools

import numpy as np
import pytest

from maml_tf.datasets.glyphs.images import glyphs
from maml_tf.datasets.packed_images import SPLITS, ImageClasses
from maml_tf.errors import DataError
from maml_tf.tasks.few_shot import Episodes, _without_replacement

COUNTS = [5, 9, 6, 7, 5, 8, 12]


@pytest.fixture(scope="module")
def classes():
    """Classes of different sizes; every image tells which one it is.

    An image is [[255, 0], [class, number]], so its turn can be told, too. The
    classes lie in the array in another order than they are listed in.
    """
    order = [3, 0, 6, 1, 5, 2, 4]
    images = [
        [[255, 0], [c, number]] for c in order for number in range(COUNTS[c])
    ]
    ends = np.cumsum([COUNTS[c] for c in order])
    firsts = {c: end - COUNTS[c] for c, end in zip(order, ends, strict=True)}
    return ImageClasses(
        np.array(images, np.uint8)[..., None],
        tuple(f"class {c}" for c in range(len(COUNTS))),
        np.array([firsts[c] for c in range(len(COUNTS))]),
        np.array(COUNTS),
    )


def read(inputs):
    """Class, number and quarter turns of each image, [...] each."""
    pixels = np.rint(255 * inputs[..., 0]).astype(int)
    # Where the corner of 255 went: counterclockwise from the upper left.
    corners = [pixels[..., 0, 0], pixels[..., 1, 0]]
    corners += [pixels[..., 1, 1], pixels[..., 0, 1]]
    turns = np.argmax(corners, axis=0)
    upright = pixels.copy()
    for turn in (1, 2, 3):
        upright[turns == turn] = np.rot90(
            pixels[turns == turn], -turn, axes=(1, 2)
        )
    assert (upright[..., 0, 0] == 255).all()
    assert (upright[..., 0, 1] == 0).all()
    return upright[..., 1, 0], upright[..., 1, 1], turns


def by_class(values, num_ways):
    """[tasks, N * K] as [tasks, N, K]."""
    return values.reshape(len(values), num_ways, -1)


def arrays(task):
    return [*task.support, *task.query]


def assert_equal(a, b):
    for x, y in zip(arrays(a), arrays(b), strict=True):
        np.testing.assert_array_equal(x, y)


def test_shapes_types_and_range(classes):
    task = Episodes(classes, 4, 2, 3).tasks(0, 6)
    for batch, examples in ((task.support, 8), (task.query, 12)):
        assert batch.inputs.shape == (6, examples, 2, 2, 1)
        assert batch.targets.shape == (6, examples, 4)
        assert batch.inputs.dtype == batch.targets.dtype == np.float32
        assert (batch.inputs.min(), batch.inputs.max()) == (0, 1)
        pixels = 255 * batch.inputs
        np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-4)


def test_each_label_is_a_class_with_as_many_images_as_the_others(classes):
    stream = Episodes(classes, 4, 2, 3)
    task = stream.tasks(5, 6)
    for batch, per_class in ((task.support, 2), (task.query, 3)):
        np.testing.assert_array_equal(
            batch.targets, [np.eye(4).repeat(per_class, axis=0)] * 6
        )
        found = by_class(read(batch.inputs)[0], 4)
        assert (found == found[:, :, :1]).all()
        for i in range(6):
            assert stream.class_names(5 + i) == [
                f"class {c}" for c in found[i, :, 0]
            ]


def test_classes_are_distinct_and_support_and_query_disjoint(classes):
    task = Episodes(classes, 5, 2, 3).tasks(0, 300)
    chosen = by_class(read(task.support.inputs)[0], 5)[:, :, 0]
    assert all(len(set(row)) == 5 for row in chosen)
    numbers = np.concatenate(
        [by_class(read(batch.inputs)[1], 5) for batch in task], axis=2
    )
    sizes = np.array(COUNTS)[chosen]
    assert (numbers < sizes[..., None]).all()
    numbers.sort(axis=2)
    assert (np.diff(numbers, axis=2) > 0).all()
    # All images of all classes are used.
    for c, count in enumerate(COUNTS):
        assert set(numbers[chosen == c].flat) == set(range(count))


@pytest.mark.parametrize("rotations", [False, True])
def test_a_task_is_the_same_however_it_is_asked_for(classes, rotations):
    stream = Episodes(classes, 3, 1, 2, seed=4, rotations=rotations)
    whole = stream.tasks(0, 20)
    for first, count in ((0, 1), (7, 5), (19, 1)):
        part = stream.tasks(first, count)
        for x, y in zip(arrays(whole), arrays(part), strict=True):
            np.testing.assert_array_equal(x[first : first + count], y)


def test_other_numbers_of_images_leave_classes_and_turns(classes):
    def drawn(num_shots, num_queries):
        stream = Episodes(classes, 4, num_shots, num_queries, rotations=True)
        task = stream.tasks(0, 50)
        found = [read(batch.inputs) for batch in task]
        return [
            by_class(values, 4)[:, :, 0]
            for chosen, _, turns in found
            for values in (chosen, turns)
        ]

    expected = drawn(1, 1)
    for num_shots, num_queries in ((1, 4), (3, 1), (2, 3)):
        for a, b in zip(expected, drawn(num_shots, num_queries), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("split", SPLITS)
def test_each_class_of_a_task_is_turned_by_itself(classes, split):
    task = Episodes(classes, 4, 2, 3, split=split, rotations=True).tasks(0, 500)
    turns = np.concatenate(
        [by_class(read(batch.inputs)[2], 4) for batch in task], axis=2
    )
    # All images of a class alike, in the support and in the query set.
    assert (turns == turns[:, :, :1]).all()
    turns = turns[:, :, 0]
    np.testing.assert_allclose(np.bincount(turns.flat) / 2000, 0.25, atol=0.03)
    # Independently: two classes of a task agree in one of four cases.
    assert np.mean(turns[:, 0] == turns[:, 1]) == pytest.approx(0.25, abs=0.06)
    chosen = by_class(read(task.support.inputs)[0], 4)[:, :, 0]
    assert len(set(zip(chosen.flat, turns.flat, strict=True))) == 4 * 7


def test_turns_change_nothing_but_the_orientation(classes):
    turned, upright = (
        Episodes(classes, 4, 2, 3, rotations=on).tasks(0, 50)
        for on in (True, False)
    )
    for a, b in zip(turned, upright, strict=True):
        np.testing.assert_array_equal(a.targets, b.targets)
        np.testing.assert_array_equal(read(a.inputs)[:2], read(b.inputs)[:2])
        assert not read(b.inputs)[2].any()


@pytest.mark.parametrize(
    "other",
    [{"seed": 2}, {"split": "validation"}, {"split": "test"}],
    ids=["seed", "validation", "test"],
)
def test_seeds_and_splits_have_streams_of_their_own(classes, other):
    settings = {"seed": 1, "split": "train", "rotations": True}
    a, b = (
        Episodes(classes, 4, 1, 1, **(settings | changes)).tasks(0, 300)
        for changes in ({}, other)
    )
    # How often independent tasks agree in a class, a turn, an image.
    for k, chance in ((0, 1 / 7), (2, 1 / 4)):
        same = read(a.support.inputs)[k] == read(b.support.inputs)[k]
        assert same.mean() == pytest.approx(chance, abs=0.05)
    assert not (a.support.inputs == b.support.inputs).all((1, 2, 3, 4)).any()


def test_images_do_not_follow_from_classes(classes):
    """The two streams of a split are independent."""
    task = Episodes(classes, 4, 1, 1).tasks(0, 3000)
    chosen, numbers, _ = read(task.support.inputs)
    first = chosen == 1
    counts = np.bincount(numbers[first], minlength=COUNTS[1])
    expected = first.sum() / COUNTS[1]
    assert (((counts - expected) ** 2) / expected).sum() < 27  # chi2, 8 dof


def test_samples_without_replacement_are_uniform():
    """All 60 ordered samples of 3 out of 5 are equally frequent."""
    u = np.random.default_rng(0).random((60_000, 3))
    samples = _without_replacement(u, 5)
    _, counts = np.unique(samples, axis=0, return_counts=True)
    assert len(counts) == 60
    assert (((counts - 1000) ** 2) / 1000).sum() < 100  # chi2, 59 dof


def test_samples_of_rows_of_different_sizes():
    sizes = np.array([[3, 4], [9, 30]]).repeat(3000, axis=0)
    u = np.random.default_rng(1).random((*sizes.shape, 3))
    samples = _without_replacement(u, sizes)
    assert samples.dtype == np.int64
    ordered = np.sort(samples, axis=-1)
    assert (np.diff(ordered) > 0).all()
    for size in (3, 4, 9, 30):
        for j in range(3):
            counts = np.bincount(samples[sizes == size][:, j])
            assert len(counts) == size
            expected = 3000 / size
            # chi2 of at most 29 degrees of freedom
            assert (((counts - expected) ** 2) / expected).sum() < 66


def test_the_whole_class_is_a_permutation():
    u = np.random.default_rng(2).random((200, 40))
    u[0], u[1] = 0, np.nextafter(1, 0)
    samples = _without_replacement(u, 40)
    np.testing.assert_array_equal(
        np.sort(samples), np.tile(np.arange(40), (200, 1))
    )
    np.testing.assert_array_equal(samples[0], np.arange(40))
    np.testing.assert_array_equal(samples[1], np.arange(40)[::-1])


@pytest.mark.parametrize("split", SPLITS)
def test_too_few_classes_are_refused(classes, split):
    assert Episodes(classes, 7, 1, 1, split=split).tasks(0, 1)
    with pytest.raises(DataError, match=f"8-way.* 8 classes.*{split}.* has 7"):
        Episodes(classes, 8, 1, 1, split=split)


@pytest.mark.parametrize("split", SPLITS)
def test_too_few_images_are_refused(classes, split):
    assert Episodes(classes, 5, 2, 3, split=split).tasks(0, 1)
    message = rf"6 images.*\(2 .* 4 query\).*the {split} .* class 0 \(5\)"
    with pytest.raises(DataError, match=message):
        Episodes(classes, 5, 2, 4, split=split)


def test_splits_of_real_data_share_no_class_and_no_image():
    data = glyphs()
    names, images = {}, {}
    for split in SPLITS:
        stream = Episodes(data.splits[split], 20, 1, 1, split=split)
        names[split] = {n for i in range(40) for n in stream.class_names(i)}
        assert len(names[split]) > 20
        assert names[split] <= set(data.splits[split].names)
        task = stream.tasks(0, 40)
        images[split] = {
            image.tobytes() for batch in task for row in batch.inputs
            for image in row
        }  # fmt: skip
    for a, b in itertools.combinations(SPLITS, 2):
        assert not names[a] & names[b]
        assert not images[a] & images[b]


def test_query_sets_one_after_another_of_all_classes(classes):
    one = Episodes(classes, 3, 1, 4, rotations=True).tasks(0, 5)
    two = Episodes(classes, 3, 1, 2, rotations=True, num_query_sets=2)
    task = two.tasks(0, 5)
    for a, b in zip(task.support, one.support, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(
        task.query.targets, [np.tile(np.eye(3).repeat(2, 0), (2, 1))] * 5
    )
    images = one.query.inputs.reshape(5, 3, 2, 2, 2, 2, 1)
    np.testing.assert_array_equal(
        task.query.inputs, images.swapaxes(1, 2).reshape(5, 12, 2, 2, 1)
    )


def test_query_sets_need_images(classes):
    with pytest.raises(DataError, match="1 support and 6 query"):
        Episodes(classes, 3, 1, 2, num_query_sets=3)
