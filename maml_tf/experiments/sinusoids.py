"""Section 5.1: regression of sinusoids."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from maml_tf.core.losses import squared_error
from maml_tf.experiments.metric import MEAN_SQUARED_ERROR
from maml_tf.experiments.results import Results
from maml_tf.experiments.source import DataSource, Published
from maml_tf.experiments.supervised import (
    EVALUATION_SEED,
    SupervisedExperiment,
)
from maml_tf.models import dense_net
from maml_tf.tasks.sinusoids import Sinusoids
from maml_tf.training.config import ITERATIONS, TrainingConfig

HIDDEN_DIMS = (40, 40)
FITS_SHOTS = (5, 10)  # of the paper's figure 2

# Table 2 of the paper (arXiv 1703.03400v3): mean squared error after 1, 5 and
# 10 updates, by network and K.
PUBLISHED = {
    ("maml", 5): {1: 0.67, 5: 0.38, 10: 0.35},
    ("pretrained", 5): {1: 2.41, 5: 2.23, 10: 2.19},
}


@dataclasses.dataclass(frozen=True)
class SinusoidConfig(TrainingConfig):
    """Sinusoid regression: section 5.1 of the paper, 10-shot training."""

    pretrain_iterations: int = 0
    metatrain_iterations: int = 70_000  # README
    meta_batch_size: int = 25  # README and code
    num_shots: int = 10
    # Paper; the original's own command leaves its flag at 0.001.
    alpha: float = 0.01
    num_steps: int = 1
    norm: str | None = None  # README
    # `oracle` gives amplitude and phase as inputs; else None.
    baseline: str | None = None

    datasource: ClassVar[str] = "sinusoid"

    @property
    def run_name(self) -> str:
        """Name of the run's directory: whatever training depends on.

        Two runs that differ in anything but the number of iterations have
        different names.
        """
        return ".".join([self.datasource, *self._name_parts()])


class SinusoidExperiment(SupervisedExperiment):
    """The paper's network for sinusoids, and its tasks."""

    config: SinusoidConfig
    reports = MEAN_SQUARED_ERROR
    evaluation_shots = (5, 10, 20)  # the paper's figure 3 and appendix

    def __init__(self, config: SinusoidConfig, source: DataSource):
        input_dim = 3 if config.baseline == "oracle" else 1
        super().__init__(
            config,
            source,
            dense_net(input_dim, HIDDEN_DIMS, 1, config.norm, config.seed),
            squared_error,
        )

    def tasks(
        self,
        split: str,
        num_shots: int | None = None,
        num_queries: int | None = None,
    ) -> Sinusoids:
        del num_queries  # as many as K
        return Sinusoids(
            num_shots or self.config.num_shots,
            self.config.seed if split == "train" else EVALUATION_SEED,
            split,
            oracle=self.config.baseline == "oracle",
        )

    @property
    def title(self) -> str:
        return "Sinusoid regression"

    def updates_in_table(self, networks: Sequence[Results]) -> Sequence[int]:
        return (0, 1, 5, 10)

    def draw(
        self,
        directory: pathlib.Path,
        name: str,
        networks: Sequence[Results[Self]],
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
    """Sinusoids, drawn when they are needed."""

    name = "sinusoid"
    words = "sinusoids"
    config_class = SinusoidConfig
    evaluation_options = frozenset({"split"})

    def configure(self, **given: Any) -> SinusoidConfig:
        settings = dict(given)
        if given.get("baseline") == "oracle" and not set(ITERATIONS) & set(
            given
        ):
            settings |= {
                "pretrain_iterations": SinusoidConfig.metatrain_iterations,
                "metatrain_iterations": 0,
            }
        return SinusoidConfig(**settings)

    def build(
        self, config: SinusoidConfig, data_dir: pathlib.Path
    ) -> SinusoidExperiment:
        del data_dir
        return SinusoidExperiment(config, self)

    def baselines(self, config: SinusoidConfig) -> list[TrainingConfig]:
        """The pretrained and the oracle network.

        Both are trained on all tasks jointly, those of the meta-trained
        network, for as many iterations; the oracle is also told the task.
        """
        pretrained = dataclasses.replace(
            config,
            pretrain_iterations=config.metatrain_iterations,
            metatrain_iterations=0,
            first_order=False,
            method=SinusoidConfig.method,
            alpha=SinusoidConfig.alpha,
            num_steps=SinusoidConfig.num_steps,
        )
        return [pretrained, dataclasses.replace(pretrained, baseline="oracle")]

    def published(
        self, label: str, config: SinusoidConfig, num_shots: int
    ) -> dict[int, Published]:
        values = PUBLISHED.get((label, num_shots), {})
        return {u: Published(value) for u, value in values.items()}
