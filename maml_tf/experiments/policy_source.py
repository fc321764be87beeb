"""The environments as data sources of the command line."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from maml_tf.errors import ConfigError
from maml_tf.experiments.evaluation import Published
from maml_tf.experiments.experiment import Experiment
from maml_tf.experiments.labels import network_label
from maml_tf.experiments.reporter import Reporter
from maml_tf.experiments.results import Results
from maml_tf.experiments.source import DataSource
from maml_tf.rl.config import RLConfig, joint_iterations
from maml_tf.rl.environments.spec import EnvironmentSpec
from maml_tf.training.config import ITERATIONS, TrainingConfig


class PolicyReporter(Reporter):
    """Returns by updates, the course of training, and rollouts."""

    learns = "policy"
    chosen_in = "training"

    def title(self, results: Results) -> str:
        datasource = results.experiment.config.datasource
        return f"{datasource}, reinforcement learning"

    def updates_in_table(self, results: Results) -> Sequence[int]:
        return range(results.evaluations[0].values.shape[1])

    def notes(self, networks: Sequence[Results]) -> list[str]:
        results = networks[0]
        transitions = results.evaluations[0].counts["transitions_per_goal"]
        notes = [
            "Return (sum of rewards, not discounted) with fresh data, K "
            f"rollouts or {transitions} transitions of each goal, on "
            f"{results.num_tasks} held-out goals, ± 95 % interval over the "
            "goals. The step size is that of the first update; the others "
            "take half of it.",
        ]
        for found in networks:
            count = sum(found.evaluations[0].counts["unstable_episodes"])
            if count:
                notes.append(
                    f"{network_label(found.label)}: the simulation broke down "
                    f"in {count} episodes, which are left out."
                )
        return notes

    def draw(
        self, directory: pathlib.Path, name: str, networks: Sequence[Results]
    ) -> None:
        # Matplotlib takes long to import.
        from maml_tf.experiments.figures.policies import plot_policies

        plot_policies(directory, name, networks)


class PolicySource(DataSource):
    """An environment, whose goals are the tasks.

    Attributes:
        spec: the description of the environment.
    """

    words = "policies"
    config_class = RLConfig
    evaluation_options = frozenset({"best"})
    without = frozenset(
        {"norm", "method", "method_settings", "beta_schedule", "beta_end"}
    )
    reporter = PolicyReporter()
    large_ops = True

    def __init__(self, spec: EnvironmentSpec):
        self.spec = spec
        self.name = spec.name

    def configure(self, **given: Any) -> RLConfig:
        settings = dict(given)
        if given.get("baseline") == "oracle" and not set(ITERATIONS) & set(
            given
        ):
            meta = RLConfig.for_environment(self.name)
            settings |= {
                "pretrain_iterations": joint_iterations(meta),
                "metatrain_iterations": 0,
            }
        config = RLConfig.for_environment(self.name, **settings)
        if "beta" in given and config.outer_step == "trpo":
            raise ConfigError(
                "beta is the step size of outer_step=vpg; the steps of trpo "
                "are bounded by max_kl.",
                "beta",
                "outer_step",
                "max_kl",
            )
        return config

    def build(self, config: RLConfig, data_dir: pathlib.Path) -> Experiment:
        # TensorFlow Probability takes seconds to import.
        from maml_tf.experiments.policies import PolicyExperiment

        del data_dir
        return PolicyExperiment(config)

    def baselines(self, config: RLConfig) -> list[TrainingConfig]:
        """The pretrained and the oracle policy, trained as in the original."""
        pretrained = RLConfig.for_environment(
            self.name,
            pretrain_iterations=joint_iterations(config),
            metatrain_iterations=0,
            horizon=config.horizon,
            seed=config.seed,
        )
        return [pretrained, dataclasses.replace(pretrained, baseline="oracle")]

    def published(
        self, label: str, config: RLConfig, num_shots: int
    ) -> dict[int, Published]:
        values = self.spec.published.get(label, ())
        return {u: Published(*value) for u, value in enumerate(values)}
