"""Metrics after each update, and their summaries."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.batch import Batch
from maml_tf.core.losses import squared_error
from maml_tf.core.maml import Task
from maml_tf.core.network import Network
from maml_tf.experiments.metric import ACCURACY, MEAN_SQUARED_ERROR
from maml_tf.experiments.supervised import STEP_SIZES
from maml_tf.learner.evaluation import CHUNK, Evaluator
from maml_tf.learner.scores import summarize
from maml_tf.methods.maml import MAML
from maml_tf.methods.step_size import best_step_size


class Listed:
    """A stream of given tasks, over and over: numbers to be approached."""

    def __init__(self, support, query):
        self.support = np.array(support, "f")[:, None, None]
        self.query = np.array(query, "f")[:, None, None]

    def tasks(self, first, count):
        index = np.arange(first, first + count) % len(self.support)
        ones = np.ones((count, 1, 1), "f")
        return Task(
            Batch(ones, self.support[index]), Batch(ones, self.query[index])
        )


TASKS = Listed([1.0, 2.0], [1.5, 0.0])
START = (tf.constant([[0.5]]),)  # theta, a single number


def evaluator(*objectives, loss=squared_error):
    """An evaluator of a network that returns theta for any input."""
    model = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False)]
    )
    network = Network(model, loss)
    return Evaluator(
        network, MAML().bind(network), objectives or [loss], "transductive"
    )


def test_losses_are_those_of_the_query_set_after_each_update():
    (losses,) = evaluator()(START, TASKS, alpha=0.1, num_tasks=2, num_updates=3)
    support, query = TASKS.support[:, 0, 0], TASKS.query[:, 0, 0]
    for update in range(4):
        theta = support + 0.8**update * (0.5 - support)
        np.testing.assert_allclose(
            losses[:, update], (theta - query) ** 2, rtol=1e-5
        )


def test_step_size_zero_leaves_the_network_as_it_is():
    (losses,) = evaluator()(START, TASKS, 0.0, num_tasks=2, num_updates=10)
    assert losses.shape == (2, 11)
    np.testing.assert_array_equal(losses, losses[:, :1].repeat(11, 1))


def test_summaries_by_hand():
    values = np.array([[1.0], [2.0], [6.0]])
    (summary,) = summarize(values, diverged_above=10, worst=np.inf)
    assert (summary.mean, summary.median) == (3.0, 2.0)
    assert summary.sd == pytest.approx(np.sqrt(14 / 3))
    assert summary.ci95 == pytest.approx(1.96 * np.sqrt(14 / 3) / np.sqrt(3))
    assert summary.diverged == 0


def test_a_single_task_has_no_interval():
    (summary,) = summarize(np.array([[0.5]]), diverged_above=1, worst=np.inf)
    assert (summary.mean, summary.sd, summary.ci95) == (0.5, 0.0, np.inf)


def test_diverged_tasks_are_counted_and_not_averaged():
    losses = np.array([[1.0], [3.0], [np.nan], [np.inf], [10.5]])
    (summary,) = summarize(losses, diverged_above=10, worst=np.inf)
    assert (summary.mean, summary.diverged) == (2.0, 3)
    assert summary.median == 10.5
    (nothing,) = summarize(losses[2:], diverged_above=10, worst=np.inf)
    assert nothing.mean == np.inf
    assert nothing.diverged == 3


def test_diverged_tasks_are_at_the_worst_end_of_the_median():
    values = np.array([[np.nan], [np.nan], [0.2], [0.3], [0.4]])
    medians = {
        metric.name: summarize(values, metric.largest, metric.worst)[0].median
        for metric in (ACCURACY, MEAN_SQUARED_ERROR)
    }
    assert medians == {"accuracy": 0.2, "mean squared error": 0.4}


def test_chunks_are_put_together():
    count = CHUNK + 3
    (values,) = evaluator()(START, TASKS, 0.1, num_tasks=count, num_updates=1)
    assert values.shape == (count, 2)
    np.testing.assert_array_equal(values[2:], values[:-2])


def test_several_metrics_are_measured_in_one_pass():
    first, second = evaluator(lambda _, outputs: outputs, squared_error)(
        START, TASKS, 0.1, num_tasks=2, num_updates=1
    )
    np.testing.assert_allclose(first, [[0.5, 0.6], [0.5, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(second[:, 0], [1.0, 0.25])


def test_the_best_step_size_is_found():
    # theta' - c = (1 - 2 a)^n (theta - c): the largest step wins.
    tasks = Listed([1.0, 2.0], [1.0, 2.0])

    def search(found, metric):
        return best_step_size(
            STEP_SIZES,
            lambda alpha: found(START, tasks, alpha, 2, 10)[0],
            metric.better,
            metric.worst,
        )

    assert search(evaluator(), MEAN_SQUARED_ERROR) == max(STEP_SIZES)

    def steep(targets, outputs):  # converges only below 2 / 300
        return 150 * squared_error(targets, outputs)

    best = search(evaluator(loss=steep), MEAN_SQUARED_ERROR)
    assert best == min(STEP_SIZES, key=lambda a: abs(1 - 300 * a))
    worst = search(evaluator(), ACCURACY)  # as if larger were better
    assert worst == min(STEP_SIZES)
