"""The networks that the paper compares MAML with, of sections 5.1 and 5.3."""

import dataclasses
import pathlib

from maml_tf.experiments.configs import SinusoidConfig, TrainingConfig
from maml_tf.experiments.evaluate import EvaluationSettings, evaluate_network
from maml_tf.experiments.experiment import build_experiment
from maml_tf.experiments.results import Results
from maml_tf.experiments.rl_config import RLConfig, joint_iterations


def baseline_configs(config: TrainingConfig) -> list[TrainingConfig]:
    """Settings of the pretrained and the oracle network; images have none.

    Both are trained on all tasks jointly; the oracle is also told the task.
    On the sinusoids they see the tasks of the meta-trained network, for as
    many iterations; policies are trained as in the original.
    """
    if isinstance(config, SinusoidConfig):
        pretrained = dataclasses.replace(
            config,
            pretrain_iterations=config.metatrain_iterations,
            metatrain_iterations=0,
            first_order=False,
            alpha=SinusoidConfig.alpha,
            num_steps=SinusoidConfig.num_steps,
        )
    elif isinstance(config, RLConfig):
        pretrained = RLConfig.for_environment(
            config.datasource,
            pretrain_iterations=joint_iterations(config),
            metatrain_iterations=0,
            horizon=config.horizon,
            seed=config.seed,
        )
    else:
        return []
    return [pretrained, dataclasses.replace(pretrained, baseline="oracle")]


def evaluate_random(
    config: TrainingConfig, settings: EvaluationSettings
) -> Results:
    """A network at its initial weights, with its best step size."""
    return evaluate_network(
        "random",
        build_experiment(config, pathlib.Path()),
        iteration=0,
        settings=EvaluationSettings(
            settings.split, num_tasks=settings.num_tasks
        ),
    )
