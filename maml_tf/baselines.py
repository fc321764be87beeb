"""The networks that the paper compares MAML with on the sinusoids."""

import dataclasses

from maml_tf.configs import SinusoidConfig
from maml_tf.experiment import SinusoidExperiment
from maml_tf.results import Results
from maml_tf.run_evaluation import EvaluationSettings, evaluate_network


def baseline_configs(config: SinusoidConfig) -> list[SinusoidConfig]:
    """Settings of the pretrained and the oracle network.

    Both are trained on all tasks jointly, for as many iterations and on the
    same tasks as the meta-trained network; the oracle also sees amplitude and
    phase.
    """
    pretrained = dataclasses.replace(
        config,
        pretrain_iterations=config.metatrain_iterations,
        metatrain_iterations=0,
        first_order=False,
        alpha=SinusoidConfig.alpha,
        num_steps=SinusoidConfig.num_steps,
    )
    return [pretrained, dataclasses.replace(pretrained, baseline="oracle")]


def evaluate_random(
    config: SinusoidConfig, settings: EvaluationSettings
) -> Results:
    """A network at its initial weights, with its best step size."""
    return evaluate_network(
        "random",
        SinusoidExperiment(config),
        iteration=0,
        settings=EvaluationSettings(
            settings.split, num_tasks=settings.num_tasks
        ),
    )
