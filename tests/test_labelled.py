"""Labelled batches of all classes."""

import dataclasses

import numpy as np
import pytest
from test_methods import blobs

from maml_tf.errors import ConfigError
from maml_tf.experiments.registry import find_source
from maml_tf.tasks.sources import tasks_from_arrays, tasks_from_series


def test_examples_have_the_number_of_their_class():
    x = np.arange(60, dtype="float32")[:, None]
    y = np.repeat(np.arange(20), 3)
    stream = tasks_from_arrays(x, y, 5, 1).labelled_batches(64)
    assert stream.num_classes == 20
    batch = stream.tasks(0, 4).support
    assert batch.inputs.shape == (4, 64, 1)
    np.testing.assert_array_equal(batch.targets, batch.inputs[..., 0] // 3)
    assert len(np.unique(batch.inputs)) > 50


def test_batch_i_is_the_same_however_it_is_read():
    stream = blobs(3).labelled_batches(8)
    later = stream.tasks(2, 1).support
    for a, b in zip(stream.tasks(0, 3).support, later, strict=True):
        np.testing.assert_array_equal(a[2:], b)
    other = dataclasses.replace(stream, seed=1).tasks(2, 1).support
    assert not np.array_equal(other.inputs, later.inputs)


def test_turned_letters_are_classes_of_their_own():
    source = find_source("glyphs")
    experiment = source.build(source.configure(num_filters=2), None)
    episodes = experiment.tasks("train")
    batches = episodes.labelled_batches(32)
    num_classes = len(episodes.classes.names)
    assert batches.num_classes == episodes.num_classes == 4 * num_classes
    (inputs,), (targets,) = batches.tasks(0, 1).support
    assert targets.shape == (32, 4 * num_classes)
    assert (targets.sum(-1) == 1).all()
    for image, label in zip(inputs[:8], targets[:8].argmax(-1), strict=True):
        first = episodes.classes.firsts[label // 4]
        count = episodes.classes.counts[label // 4]
        known = episodes.classes.images[first : first + count] / np.float32(255)
        turned = np.rot90(known, label % 4, axes=(1, 2))
        assert np.abs(turned - image).max((1, 2, 3)).min() < 1e-6


def test_series_have_no_classes():
    series = [(np.zeros((4, 1)), np.zeros((4, 1)))] * 5
    with pytest.raises(ConfigError, match="no classes in tasks of series"):
        tasks_from_series(series, 1).labelled_batches(2)
