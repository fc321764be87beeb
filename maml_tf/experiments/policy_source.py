"""The environments as data sources of the command line."""

import dataclasses
import pathlib
from typing import Any

from maml_tf.errors import ConfigError
from maml_tf.experiments.experiment import Experiment
from maml_tf.experiments.source import DataSource, Published
from maml_tf.rl.config import RLConfig, joint_iterations
from maml_tf.rl.environments.spec import EnvironmentSpec
from maml_tf.training.config import ITERATIONS, TrainingConfig


class PolicySource(DataSource):
    """An environment, whose goals are the tasks.

    Attributes:
        spec: what is known of the environment.
    """

    words = "policies"
    config_class = RLConfig
    evaluation_options = frozenset({"best"})
    without = frozenset({"norm", "method"})
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
        return PolicyExperiment(config, self)

    def baselines(self, config: RLConfig) -> list[TrainingConfig]:
        """The pretrained and the oracle policy, trained as the original's."""
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
