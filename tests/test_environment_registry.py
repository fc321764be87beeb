"""An environment is one object; adding one takes one registration."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import command, error_of
from PIL import Image

from maml_tf.errors import ConfigError
from maml_tf.experiments.registry import find_source
from maml_tf.rl.config import RLConfig, joint_iterations
from maml_tf.rl.environments import registry
from maml_tf.rl.environments.base import EpisodicEnvironment, Step
from maml_tf.rl.environments.paths import draw_paths
from maml_tf.rl.environments.registry import (
    ENVIRONMENTS,
    environment_spec,
    register,
)
from maml_tf.rl.environments.spec import EnvironmentSpec


class Walk(EpisodicEnvironment):
    """A walk in space towards a goal."""

    observation_dim = action_dim = task_dim = 3
    ends_early = False
    task_low, task_high = -1.0, 1.0

    def goal_features(self, tasks):
        return np.asarray(tasks, "float32")

    def _allocate(self, count):
        super()._allocate(count)
        self._positions = np.zeros((count, 3))

    def _begin(self, rows, rng):
        self._positions[rows] = rng.normal(0.0, 0.1, (len(rows), 3))
        return self._positions[rows]

    def _advance(self, rows, actions):
        self._positions[rows] += 0.1 * actions
        offsets = self._positions[rows] - self._tasks[rows]
        never = np.zeros(len(rows), bool)
        return Step(
            self._positions[rows], -np.abs(offsets).sum(axis=1), never, never
        )


WALK = EnvironmentSpec(
    name="walk",
    make=Walk,
    joint_iterations=10,
    settings={
        "metatrain_iterations": 5,
        "meta_batch_size": 3,
        "num_shots": 4,
        "horizon": 6,
    },
    evaluation_rollouts=5,
    evaluation_updates=2,
    published={"maml": ((-9.0, 0.5), (-3.0, None))},
    draw=lambda stem, shown: draw_paths(stem, shown, reach=1.5),
)


@pytest.fixture
def walk():
    register(WALK)
    yield
    del registry._specs["walk"]


@pytest.mark.usefixtures("walk")
def test_a_registered_environment_is_trained_evaluated_and_reported(tmp_path):
    command(
        "--datasource=walk",
        "--metatrain_iterations=1",
        "--test_tasks=4",
        f"--logdir={tmp_path}",
    )
    (run,) = tmp_path.glob("walk.maml.*")
    assert "mbs_3.fbs_4.horizon_6" in run.name
    table = (run / "comparison_tasks4.md").read_text()
    assert "| -9.0±0.5 | -3.0 |  |" in table
    # Ten iterations stand beside five, so two beside one.
    (pretrained,) = tmp_path.glob("walk.pretrained.*")
    log = (pretrained / "train.csv").read_text()
    assert len(log.splitlines()) == 1 + 2
    (evaluation,) = json.loads((run / "results_tasks4.json").read_text())[
        "evaluations"
    ]
    assert evaluation["num_shots"] == 5
    assert [u["update"] for u in evaluation["updates"]] == [0, 1, 2]
    with Image.open(run / "comparison_tasks4_paths.png") as figure:
        assert figure.size == (150 * 4 * 2.2, 150 * 7)
        # Paths in the color of MAML, and black stars.
        colors = {color for _, color in figure.convert("RGB").getcolors(2**20)}
    assert {(193, 39, 45), (0, 0, 0)} <= colors


@pytest.mark.usefixtures("walk")
def test_the_settings_of_an_environment_are_defaults():
    config = RLConfig.for_environment("walk", num_shots=7)
    assert (config.num_shots, config.meta_batch_size) == (7, 3)
    assert (config.alpha, config.max_kl) == (0.1, 0.01)
    assert joint_iterations(config) == 10
    pretrained, oracle = find_source(config.datasource).baselines(config)
    assert (pretrained.horizon, oracle.baseline) == (6, "oracle")


@pytest.mark.parametrize("name", ["point", "cheetah_dir"])
def test_an_oracle_alone_is_drawn(name, tmp_path):
    """It does not adapt, and its environment is wrapped."""
    command(
        f"--datasource={name}",
        "--baseline=oracle",
        "--pretrain_iterations=1",
        "--metatrain_iterations=0",
        "--meta_batch_size=3",
        "--horizon=5",
        "--test_tasks=3",
        f"--logdir={tmp_path}",
    )
    (run,) = tmp_path.iterdir()
    found = {path.name for path in run.glob("report_tasks3_*")}
    assert (
        found
        == {
            "point": {
                "report_tasks3_paths.png",
                "report_tasks3_return_by_updates.png",
                "report_tasks3_training.png",
            },
            "cheetah_dir": {
                "report_tasks3_before.png",
                "report_tasks3_before.gif",
                "report_tasks3_return_by_updates.png",
                "report_tasks3_training.png",
            },
        }[name]
    )


def test_names_are_unique_identifiers(walk):
    assert list(ENVIRONMENTS) == [
        "point",
        "cheetah_vel",
        "cheetah_dir",
        "ant_vel",
        "ant_dir",
        "walk",
    ]
    assert environment_spec("walk") is ENVIRONMENTS["walk"] is WALK
    with pytest.raises(ConfigError, match="an environment walk already"):
        register(WALK)
    with pytest.raises(ConfigError, match="does not start .*'a/b'"):
        register(EnvironmentSpec(name="a/b", make=Walk, joint_iterations=1))


def test_an_unknown_name_is_refused():
    for refused in (
        lambda: environment_spec("humanoid"),
        lambda: RLConfig.for_environment("humanoid"),
        lambda: RLConfig(datasource="humanoid"),
    ):
        with pytest.raises(
            ConfigError, match=r"one of point, .*'humanoid'.*registry\.register"
        ):
            refused()
    assert "walk" in error_of("--datasource=walk")


def test_names_cost_no_simulator():
    """Heavy packages are imported only when used."""
    code = (
        "import sys; import maml_tf.rl.environments.registry; "
        "print({'mujoco', 'tensorflow_probability'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout == "set()\n"
