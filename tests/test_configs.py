"""Settings: the paper's by default, and refused when they make no sense."""

import dataclasses

import pytest

from maml_tf.errors import ConfigError
from maml_tf.experiments.sinusoids import SinusoidConfig
from maml_tf.training.config import ITERATIONS


def test_defaults_are_the_papers():
    config = SinusoidConfig()
    assert (config.num_shots, config.num_steps, config.alpha) == (10, 1, 0.01)
    assert (config.meta_batch_size, config.beta) == (25, 0.001)
    assert config.num_iterations == config.metatrain_iterations == 70_000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_steps": 0}, "num_steps must be .* at least 1.*num_steps=0"),
        ({"num_shots": -5}, "num_shots must be .* at least 1"),
        ({"meta_batch_size": 0}, "meta_batch_size must be .* at least 1"),
        ({"seed": -1}, "seed must be .* at least 0"),
        ({"seed": 1.5}, "seed must be .* whole number, .*seed=1.5"),
        (
            {"num_steps": True},
            "num_steps must be .* whole number.*num_steps=True",
        ),
        ({"alpha": -0.01}, "alpha must be a positive number.*-0.01"),
        ({"alpha": float("nan")}, "alpha must be a positive number"),
        ({"beta": 0.0}, "beta must be a positive number"),
        ({"pretrain_iterations": -1}, "pretrain_iterations must be .* least 0"),
        ({"metatrain_iterations": 0}, "nothing to train"),
        ({"norm": "weight_norm"}, "norm must be one of.*'weight_norm'"),
        ({"baseline": "oracel"}, "baseline must be one of"),
        (
            {
                "first_order": True,
                "metatrain_iterations": 0,
                "pretrain_iterations": 1,
            },
            "first_order concerns meta-training",
        ),
        ({"beta_schedule": "step"}, "beta_schedule must be one of"),
        ({"beta_end": 1e-4}, "beta_end is the last value of beta_schedule"),
        (
            {"beta_schedule": "cosine", "beta_end": 0.01},
            "beta_end must be between 0 and beta",
        ),
        (
            {
                "beta_schedule": "cosine",
                "metatrain_iterations": 0,
                "pretrain_iterations": 1,
            },
            "beta_schedule concerns meta-training",
        ),
        (
            {"method_settings": {"train_query_sets": 2}},
            "train_query_sets is for images",
        ),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        SinusoidConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({}, "maml"),
        ({"first_order": True}, "first-order"),
        ({"method": "reptile"}, "reptile"),
        (
            {"method": "meta_sgd", "first_order": True},
            "first-order-meta_sgd",
        ),
        ({"baseline": "oracle"}, "oracle.maml"),
        ({"pretrain_iterations": 5, "metatrain_iterations": 0}, "pretrained"),
        ({"pretrain_iterations": 5}, "maml.pretrained_5"),
        (
            {
                "pretrain_iterations": 5,
                "metatrain_iterations": 0,
                "baseline": "oracle",
            },
            "oracle",
        ),
    ],
)
def test_runs_are_told_apart(settings, label):
    assert SinusoidConfig(**settings).label == label


def test_runs_that_differ_have_different_directories():
    base = SinusoidConfig(pretrain_iterations=3)
    changes = {
        "baseline": "oracle",
        "pretrain_iterations": 4,
        "meta_batch_size": 4,
        "beta": 0.01,
        "num_shots": 4,
        "alpha": 0.1,
        "num_steps": 2,
        "norm": "batch_norm",
        "first_order": True,
        "seed": 1,
        "method": "meta_sgd",
        "beta_schedule": "cosine",
    }
    fields = {f.name for f in dataclasses.fields(base)}
    assert base.identity.keys() == fields - set(ITERATIONS)
    # Those of methods: test_method_settings.py.
    assert fields - set(changes) == {
        "metatrain_iterations",
        "method_settings",
        "beta_end",  # below
    }
    names = {
        dataclasses.replace(base, **{k: v}, method_settings={}).run_name
        for k, v in changes.items()
    }
    assert len(names | {base.run_name}) == len(changes) + 1


def test_runs_without_meta_training_do_not_depend_on_the_inner_loop():
    joint = SinusoidConfig(pretrain_iterations=1, metatrain_iterations=0)
    other = dataclasses.replace(joint, alpha=0.5, num_steps=3)
    assert joint.identity == other.identity
    assert joint.run_name == other.run_name


def test_a_longer_run_continues_in_the_same_directory():
    assert (
        SinusoidConfig(metatrain_iterations=10).run_name
        == SinusoidConfig().run_name
    )


def test_the_cosine_of_beta():
    config = SinusoidConfig(beta_schedule="cosine", metatrain_iterations=100)
    rates = [float(config.outer_rate(step)) for step in (0, 50, 100, 200)]
    assert rates == pytest.approx([1e-3, 0.000505, 1e-5, 1e-5], rel=1e-5)
    assert SinusoidConfig().outer_rate == 0.001


def test_a_schedule_belongs_to_the_length_of_the_run():
    base = SinusoidConfig(beta_schedule="cosine", metatrain_iterations=100)
    names = {
        dataclasses.replace(base, **change).run_name
        for change in (
            {},
            {"metatrain_iterations": 200},
            {"beta_end": 1e-4},
        )
    }
    assert len(names) == 3
    assert base.identity["metatrain_iterations"] == 100
