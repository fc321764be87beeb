"""Section 5.1: regression of sinusoids."""

import dataclasses
from typing import ClassVar

from maml_tf.core.losses import squared_error
from maml_tf.errors import ConfigError
from maml_tf.experiments.metric import MEAN_SQUARED_ERROR
from maml_tf.experiments.supervised import (
    EVALUATION_SEED,
    SupervisedExperiment,
)
from maml_tf.methods.registry import METHODS
from maml_tf.models import dense_net
from maml_tf.tasks.sinusoids import Sinusoids
from maml_tf.training.config import TrainingConfig

HIDDEN_DIMS = (40, 40)


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

    def __post_init__(self):
        super().__post_init__()
        if not METHODS[self.method].fixed_outputs:
            raise ConfigError(
                f"method={self.method} classifies; sinusoids are regression. "
                "Choose another method or datasource.",
                "method",
                "datasource",
            )
        if self.method_settings.get("train_query_sets", 1) > 1:
            raise ConfigError(
                "train_query_sets is for images, whose query sets are "
                "normalized. Leave it out, or choose another datasource.",
                "train_query_sets",
                "datasource",
            )

    @property
    def run_name(self) -> str:
        """Name of the run's directory: everything that training depends on.

        Two runs that differ in anything but the number of iterations have
        different names.
        """
        return ".".join([self.datasource, *self._name_parts()])


class SinusoidExperiment(SupervisedExperiment):
    """The paper's network for sinusoids, and its tasks."""

    config: SinusoidConfig
    reports = MEAN_SQUARED_ERROR
    evaluation_shots = (5, 10, 20)  # the paper's figure 3 and appendix

    def __init__(self, config: SinusoidConfig):
        input_dim = 3 if config.baseline == "oracle" else 1
        super().__init__(
            config,
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
