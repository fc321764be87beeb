"""A new method or data source is one class and one registration."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
from conftest import command

from maml_tf.core.batch import Batch
from maml_tf.core.losses import squared_error
from maml_tf.core.maml import MetaGradient, Task
from maml_tf.errors import ConfigError
from maml_tf.experiments import registry as sources
from maml_tf.experiments.metric import MEAN_SQUARED_ERROR
from maml_tf.experiments.sinusoid_source import SinusoidSource
from maml_tf.experiments.sinusoids import SinusoidConfig
from maml_tf.experiments.supervised import SupervisedExperiment
from maml_tf.methods import registry as methods
from maml_tf.methods.gradient import GradientMethod
from maml_tf.methods.maml import MAML
from maml_tf.models import dense_net


@dataclasses.dataclass(frozen=True)
class Still(GradientMethod):
    """Learns nothing: its meta-gradient is zero."""

    name: ClassVar[str] = "still"

    def task_gradient(self, network, params, task):
        return MetaGradient(
            [tf.zeros_like(p) for p in params],
            {"post_update": network.loss(params, task.query)},
        )


class Lines:
    """Tasks y = a x, with a of -1 or 1."""

    def tasks(self, first, count):
        x = np.linspace(-1, 1, 4, dtype="float32")[:, None]
        signs = np.arange(first, first + count) % 2 * 2 - 1
        y = signs[:, None, None].astype("float32") * x
        batch = Batch(np.broadcast_to(x, y.shape), y)
        return Task(batch, batch)


class LineExperiment(SupervisedExperiment):
    reports = MEAN_SQUARED_ERROR
    evaluation_shots = (4,)

    def __init__(self, config):
        super().__init__(config, dense_net(1, (4,), 1), squared_error)

    def tasks(self, split, num_shots=None, num_queries=None):
        return Lines()


@dataclasses.dataclass(frozen=True)
class LineConfig(SinusoidConfig):
    datasource: ClassVar[str] = "lines"


class LineSource(SinusoidSource):
    name = "lines"
    config_class = LineConfig

    def configure(self, **given):
        return LineConfig(**given)

    def build(self, config, data_dir):
        return LineExperiment(config)


@pytest.fixture
def plugged(monkeypatch):
    """The toy method and the toy data source, for one test."""
    monkeypatch.setitem(methods.METHODS, "still", Still)
    monkeypatch.setitem(sources._sources, "lines", LineSource())


def run(tmp_path, *flags):
    command(
        f"--logdir={tmp_path}",
        "--metatrain_iterations=2",
        "--meta_batch_size=2",
        "--compare=False",
        "--test_tasks=4",
        "--log=False",
        *flags,
    )
    (directory,) = tmp_path.iterdir()
    return directory


def test_a_method_is_one_class(plugged, tmp_path):
    directory = run(tmp_path, "--method=still")
    assert directory.name.startswith("sinusoid.still.")
    table = (directory / "report_tasks4.md").read_text()
    assert "| still | 5 | 0.01 |" in table


def test_a_data_source_is_one_class(plugged, tmp_path):
    directory = run(tmp_path, "--datasource=lines")
    assert directory.name.startswith("lines.maml.")
    table = (directory / "report_tasks4.md").read_text()
    assert "| MAML | 4 | 0.01 |" in table


def test_names_are_given_once():
    with pytest.raises(ConfigError, match="a data source sinusoid already"):
        sources.register(SinusoidSource())
    with pytest.raises(ConfigError, match="a method maml already"):
        methods.register(MAML)
