"""Losses after each update, and what is said about them."""

import numpy as np
import pytest
import tensorflow as tf

from maml_tf.evaluation import (
    STEP_SIZES,
    Evaluator,
    search_step_size,
    summarize,
)
from maml_tf.maml import Task


def quadratic(theta, center):
    return tf.reduce_sum(tf.square(theta[0] - center))


TASKS = Task(
    support=np.array([[1.0], [2.0]], "f"), query=np.array([[1.5], [0.0]], "f")
)


def test_losses_are_those_of_the_query_set_after_each_update():
    losses = Evaluator(quadratic, [True])(
        [tf.constant([0.5])], TASKS, alpha=0.1, num_updates=3
    )
    support, query = TASKS.support[:, 0], TASKS.query[:, 0]
    for update in range(4):
        theta = support + 0.8**update * (0.5 - support)
        np.testing.assert_allclose(
            losses[:, update], (theta - query) ** 2, rtol=1e-5
        )


def test_step_size_zero_leaves_the_network_as_it_is():
    losses = Evaluator(quadratic, [True])([tf.constant([0.5])], TASKS, 0.0)
    assert losses.shape == (2, 11)
    np.testing.assert_array_equal(losses, losses[:, :1].repeat(11, 1))


def test_summaries_by_hand():
    (summary,) = summarize(np.array([[1.0], [2.0], [6.0]]), diverged_above=10)
    assert (summary.mean, summary.median) == (3.0, 2.0)
    assert summary.sd == pytest.approx(np.sqrt(14 / 3))
    assert summary.ci95 == pytest.approx(1.96 * np.sqrt(14 / 3) / np.sqrt(3))
    assert summary.diverged == 0


def test_diverged_tasks_are_counted_and_not_averaged():
    losses = np.array([[1.0], [3.0], [np.nan], [np.inf], [10.5]])
    (summary,) = summarize(losses, diverged_above=10)
    assert (summary.mean, summary.diverged) == (2.0, 3)
    assert summary.median == 10.5
    (nothing,) = summarize(losses[2:], diverged_above=10)
    assert nothing.mean == np.inf
    assert nothing.diverged == 3


def test_the_best_step_size_is_found():
    # theta' - c = (1 - 2 a)^n (theta - c): the largest step wins.
    tasks = Task(TASKS.support, TASKS.support)
    evaluator = Evaluator(quadratic, [True])
    theta = [tf.constant([0.5])]
    assert search_step_size(evaluator, theta, tasks) == max(STEP_SIZES)

    def steep(theta, center):  # converges only below 2 / 300
        return 150 * quadratic(theta, center)

    best = search_step_size(Evaluator(steep, [True]), theta, tasks)
    assert best == min(STEP_SIZES, key=lambda a: abs(1 - 300 * a))
