"""Sinusoids as a data source of the command line."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from maml_tf.experiments.evaluation import Published
from maml_tf.experiments.reporter import Reporter
from maml_tf.experiments.results import Results
from maml_tf.experiments.sinusoids import SinusoidConfig, SinusoidExperiment
from maml_tf.experiments.source import DataSource
from maml_tf.methods.averages import ParameterAverages
from maml_tf.methods.registry import with_method_defaults
from maml_tf.training.config import ITERATIONS, TrainingConfig

FITS_SHOTS = (5, 10)  # of the paper's figure 2

# Table 2 of the paper (arXiv 1703.03400v3): mean squared error after 1, 5 and
# 10 updates, by network and K.
PUBLISHED = {
    ("maml", 5): {1: 0.67, 5: 0.38, 10: 0.35},
    ("pretrained", 5): {1: 2.41, 5: 2.23, 10: 2.19},
    # Appendix C.1
    ("averages none", 5): {1: 4.19, 5: 3.85, 10: 3.69},
    ("averages l2", 5): {1: 7.18, 5: 5.69, 10: 5.60},
    ("averages mean", 5): {1: 2.91, 5: 2.72, 10: 2.71},
}


class SinusoidReporter(Reporter):
    """Error by updates, and fitted curves."""

    def title(self, results: Results) -> str:
        return "Sinusoid regression"

    def updates_in_table(self, results: Results) -> Sequence[int]:
        return (0, 1, 5, 10)

    def draw(
        self, directory: pathlib.Path, name: str, networks: Sequence[Results]
    ) -> None:
        # Matplotlib takes long to import.
        from maml_tf.experiments.figures.drawing import plot_metric_by_updates
        from maml_tf.experiments.figures.sinusoids import plot_fits

        plot_metric_by_updates(
            directory / f"{name}_mse_by_updates.png", networks
        )
        fitted = [r for r in networks if r.label not in ("oracle", "random")]
        for num_shots in networks[0].shots:
            if fitted and num_shots in FITS_SHOTS:
                plot_fits(
                    directory / f"{name}_fits_K{num_shots}.png",
                    fitted,
                    num_shots,
                )


class SinusoidSource(DataSource):
    """Sinusoids, drawn as needed."""

    name = "sinusoid"
    words = "sinusoids"
    config_class = SinusoidConfig
    evaluation_options = frozenset({"split"})
    reporter = SinusoidReporter()

    def configure(self, **given: Any) -> SinusoidConfig:
        settings = dict(given)
        if given.get("baseline") == "oracle" and not set(ITERATIONS) & set(
            given
        ):
            settings |= {
                "pretrain_iterations": SinusoidConfig.metatrain_iterations,
                "metatrain_iterations": 0,
            }
        return SinusoidConfig(
            **with_method_defaults(self.name, self.fields, {}, settings)
        )

    def build(
        self, config: SinusoidConfig, data_dir: pathlib.Path
    ) -> SinusoidExperiment:
        del data_dir
        return SinusoidExperiment(config)

    def baselines(self, config: SinusoidConfig) -> list[TrainingConfig]:
        """The pretrained and the oracle network.

        Both are trained jointly on the tasks of the meta-trained network, for
        as many iterations; the oracle is also told the task.
        """
        pretrained = dataclasses.replace(
            config,
            pretrain_iterations=config.metatrain_iterations,
            metatrain_iterations=0,
            first_order=False,
            method=SinusoidConfig.method,
            method_settings={},
            beta_schedule=None,
            beta_end=None,
            alpha=SinusoidConfig.alpha,
            num_steps=SinusoidConfig.num_steps,
        )
        return [pretrained, dataclasses.replace(pretrained, baseline="oracle")]

    def published(
        self, label: str, config: SinusoidConfig, num_shots: int
    ) -> dict[int, Published]:
        if label == ParameterAverages.name:
            label += f" {config.method_settings['penalty']}"
        values = PUBLISHED.get((label, num_shots), {})
        return {u: Published(value) for u, value in values.items()}
