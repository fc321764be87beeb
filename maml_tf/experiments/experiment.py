"""An experiment built from its settings: network, losses, tasks, phases."""

import abc
import functools
import pathlib
from collections.abc import Sequence

import keras
import tensorflow as tf

from maml_tf.core.losses import (
    MetricFn,
    accuracy,
    cross_entropy,
    mean_squared_error,
    query_loss,
)
from maml_tf.core.maml import LossFn, joint_gradient, task_meta_gradient
from maml_tf.datasets.class_splits import SPLITS
from maml_tf.datasets.packed_images import PackedImages
from maml_tf.datasets.registry import open_images
from maml_tf.errors import DataError
from maml_tf.experiments.configs import (
    ImageConfig,
    SinusoidConfig,
    TrainingConfig,
)
from maml_tf.experiments.rl_config import RLConfig
from maml_tf.layers.normalization import which_adapt
from maml_tf.learner.evaluation import ACCURACY, MEAN_SQUARED_ERROR, Metric
from maml_tf.models import conv_net, dense_image_net, dense_net
from maml_tf.tasks.few_shot import Episodes
from maml_tf.tasks.sinusoids import Sinusoids
from maml_tf.tasks.stream import TaskStream
from maml_tf.training.loop import Phase

HIDDEN_DIMS = (40, 40)
SMALLEST_POOLED = 16  # pixels that four max-pools leave something of
EVALUATION_SEED = 0  # the same held-out tasks for all runs


class Experiment(abc.ABC):
    """What is built from one set of settings.

    Attributes:
        config: the settings.
        reports: the metric that evaluations report.
    """

    config: TrainingConfig
    reports: Metric

    @property
    @abc.abstractmethod
    def variables(self) -> list[tf.Variable]:
        """All weights, at first initial ones, as a checkpoint keeps them."""

    @abc.abstractmethod
    def check(self) -> None:
        """Sees that training has what it needs.

        Raises:
            ExperimentError: if not.
        """


class SupervisedExperiment(Experiment):
    """What supervised training and evaluation need.

    Attributes:
        model: the network, at its initial values.
        adapts: which of the model's trainable variables adapt.
        evaluation_shots: K of the standard evaluation.
        statistics: whose statistics normalize a query set, one of
            `losses.STATISTICS`, in the standard evaluation; None if there is
            no choice.
    """

    evaluation_shots: Sequence[int]
    statistics: str | None = None

    def __init__(self, config: TrainingConfig, model: keras.Model):
        self.config = config
        self.model = model
        self.adapts = which_adapt(model)

    @abc.abstractmethod
    def loss(self, num_shots: int | None = None) -> LossFn:
        """The loss of tasks with K support examples; None: as in training."""

    @abc.abstractmethod
    def metric(self, statistics: str | None = None) -> MetricFn:
        """The metric as a function; `statistics` as the attribute."""

    @abc.abstractmethod
    def tasks(
        self,
        split: str,
        num_shots: int | None = None,
        num_queries: int | None = None,
    ) -> TaskStream:
        """The stream of tasks of a split.

        Args:
            split: `train`, `validation` or `test`.
            num_shots: K; None takes that of training.
            num_queries: Q; None takes that of training if `num_shots` is
                None, too, and else K.
        """

    @property
    def variables(self) -> list[tf.Variable]:
        return [v.value for v in self.model.variables]

    def check(self) -> None:
        for split in SPLITS:
            self.tasks(split)

    def state(self, phases: list[Phase]) -> dict[str, list[tf.Variable]]:
        """All that training changes, by name, for checkpoints."""
        joint, meta = (
            [v.value for v in phase.optimizer.variables] for phase in phases
        )
        return {
            "weights": self.variables,
            "joint_optimizer": joint,
            "meta_optimizer": meta,
        }

    def phases(self) -> list[Phase]:
        """Joint training, then meta-training, each with Adam of its own."""
        config = self.config
        meta = functools.partial(
            task_meta_gradient,
            self.loss(),
            alpha=config.alpha,
            num_steps=config.num_steps,
            adapts=self.adapts,
            first_order=config.first_order,
        )
        joint = functools.partial(joint_gradient, self.loss())
        return [
            Phase(config.pretrain_iterations, joint, self._adam()),
            Phase(config.metatrain_iterations, meta, self._adam(self._clip)),
        ]

    def _adam(self, clip: float | None = None) -> keras.optimizers.Optimizer:
        adam = keras.optimizers.Adam(
            self.config.beta, epsilon=1e-8, clipvalue=clip
        )
        adam.build(self.model.trainable_variables)
        return adam

    @property
    def _clip(self) -> float | None:
        """Bound of each element of the meta-gradient."""
        return None

    def _seed(self, split: str) -> int:
        return self.config.seed if split == "train" else EVALUATION_SEED


class SinusoidExperiment(SupervisedExperiment):
    """Section 5.1: regression."""

    config: SinusoidConfig
    reports = MEAN_SQUARED_ERROR
    evaluation_shots = (5, 10, 20)  # the paper's figure 3 and appendix

    def __init__(self, config: SinusoidConfig):
        input_dim = 3 if config.baseline == "oracle" else 1
        super().__init__(
            config,
            dense_net(input_dim, HIDDEN_DIMS, 1, config.norm, config.seed),
        )

    def loss(self, num_shots: int | None = None) -> LossFn:
        return mean_squared_error(self.model)

    def metric(self, statistics: str | None = None) -> MetricFn:
        return query_loss(self.loss())

    def tasks(
        self,
        split: str,
        num_shots: int | None = None,
        num_queries: int | None = None,
    ) -> Sinusoids:
        return Sinusoids(
            num_shots or self.config.num_shots,
            self._seed(split),
            split,
            oracle=self.config.baseline == "oracle",
        )


class ImageExperiment(SupervisedExperiment):
    """Section 5.2: few-shot classification of images."""

    config: ImageConfig
    reports = ACCURACY

    def __init__(self, config: ImageConfig, images: PackedImages):
        """
        Args:
            config: the settings.
            images: with the splits `train`, `validation` and `test`.

        Raises:
            DataError: if the images are too small for the network.
        """
        shape = images.splits["train"].image_shape
        if config.max_pool and min(shape[:2]) < SMALLEST_POOLED:
            raise DataError(
                f"Four max-pools need images of at least {SMALLEST_POOLED} "
                f"pixels; those of {config.datasource} have {shape[:2]}. Set "
                "--max_pool=False."
            )
        if config.conv:
            model = conv_net(
                shape,
                config.num_ways,
                config.num_filters,
                config.max_pool,
                config.norm,
                config.seed,
            )
        else:
            model = dense_image_net(
                shape, config.num_ways, config.norm, config.seed
            )
        super().__init__(config, model)
        self.images = images
        # Networks for letters are trained 1-shot and evaluated 5-shot, too.
        self.evaluation_shots = (
            (1, 5)
            if config.num_shots == 1 and self._letters
            else (config.num_shots,)
        )
        if config.norm == "batch_norm":
            self.statistics = "transductive"

    def loss(self, num_shots: int | None = None) -> LossFn:
        return cross_entropy(self.model, num_shots or self.config.num_shots)

    def metric(self, statistics: str | None = None) -> MetricFn:
        return accuracy(self.model, statistics or "transductive")

    def tasks(
        self,
        split: str,
        num_shots: int | None = None,
        num_queries: int | None = None,
    ) -> Episodes:
        if num_queries is None:
            num_queries = num_shots or self.config.num_queries
        return Episodes(
            self.images.splits[split],
            self.config.num_ways,
            num_shots or self.config.num_shots,
            num_queries,
            self._seed(split),
            split,
            rotations=self._letters,
        )

    @property
    def _letters(self) -> bool:
        """Whether an image that is turned shows another character."""
        return self.config.datasource in ("omniglot", "glyphs")

    @property
    def _clip(self) -> float | None:
        return self.config.clip


def build_experiment(
    config: TrainingConfig, data_dir: pathlib.Path
) -> Experiment:
    """Builds what the settings describe.

    Args:
        config: the settings.
        data_dir: where packed data sets lie.

    Raises:
        DataError: if the data set is missing, damaged or too small.
        ConfigError: if the environment needs what is not installed.
    """
    if isinstance(config, RLConfig):
        # TensorFlow Probability takes seconds to import.
        from maml_tf.rl.experiment import PolicyExperiment

        return PolicyExperiment(config)
    if isinstance(config, ImageConfig):
        images = open_images(config.datasource, data_dir)
        return ImageExperiment(config, images)
    return SinusoidExperiment(config)
