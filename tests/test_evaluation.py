"""Metrics after each update, and what is said about them."""

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.core.losses import query_loss
from maml_tf.core.maml import Task
from maml_tf.learner.evaluation import (
    ACCURACY,
    CHUNK,
    MEAN_SQUARED_ERROR,
    STEP_SIZES,
    Evaluator,
    search_step_size,
    summarize,
)


def quadratic(theta, center):
    return tf.reduce_sum(tf.square(theta[0] - center))


class Listed:
    """A stream of given tasks, over and over."""

    def __init__(self, support, query):
        self.support = np.array(support, "f")[:, None]
        self.query = np.array(query, "f")[:, None]

    def tasks(self, first, count):
        index = np.arange(first, first + count) % len(self.support)
        return Task(self.support[index], self.query[index])


TASKS = Listed([1.0, 2.0], [1.5, 0.0])


def evaluator(loss=quadratic, *metrics):
    return Evaluator(loss, [True], metrics or [query_loss(loss)])


def test_losses_are_those_of_the_query_set_after_each_update():
    (losses,) = evaluator()(
        [tf.constant([0.5])], TASKS, alpha=0.1, num_tasks=2, num_updates=3
    )
    support, query = TASKS.support[:, 0], TASKS.query[:, 0]
    for update in range(4):
        theta = support + 0.8**update * (0.5 - support)
        np.testing.assert_allclose(
            losses[:, update], (theta - query) ** 2, rtol=1e-5
        )


def test_step_size_zero_leaves_the_network_as_it_is():
    (losses,) = evaluator()([tf.constant([0.5])], TASKS, 0.0, num_tasks=2)
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
    (values,) = evaluator()(
        [tf.constant([0.5])], TASKS, 0.1, num_tasks=count, num_updates=1
    )
    assert values.shape == (count, 2)
    np.testing.assert_array_equal(values[2:], values[:-2])


def test_several_metrics_are_measured_in_one_pass():
    first, second = evaluator(
        quadratic, lambda theta, _: theta[0][0], query_loss(quadratic)
    )([tf.constant([0.5])], TASKS, 0.1, num_tasks=2, num_updates=1)
    np.testing.assert_allclose(first, [[0.5, 0.6], [0.5, 0.8]], rtol=1e-6)
    np.testing.assert_allclose(second[:, 0], [1.0, 0.25])


def test_the_best_step_size_is_found():
    # theta' - c = (1 - 2 a)^n (theta - c): the largest step wins.
    tasks = Listed([1.0, 2.0], [1.0, 2.0])
    theta = [tf.constant([0.5])]

    def search(found, metric):
        return search_step_size(found, theta, tasks, metric)

    best = search(evaluator(), MEAN_SQUARED_ERROR)
    assert best == max(STEP_SIZES)

    def steep(theta, center):  # converges only below 2 / 300
        return 150 * quadratic(theta, center)

    best = search(evaluator(steep), MEAN_SQUARED_ERROR)
    assert best == min(STEP_SIZES, key=lambda a: abs(1 - 300 * a))
    worst = search(evaluator(), ACCURACY)  # as if larger were better
    assert worst == min(STEP_SIZES)
