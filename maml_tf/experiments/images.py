"""Section 5.2: few-shot classification of images."""

import dataclasses
import math
import re
from typing import Any, ClassVar

import keras

from maml_tf.core.comparison import ObjectiveFn
from maml_tf.core.losses import (
    scaled_cross_entropy,
    scaled_cross_entropy_of_labels,
)
from maml_tf.datasets.packed_images import PackedImages
from maml_tf.errors import ConfigError, DataError
from maml_tf.experiments.metric import ACCURACY
from maml_tf.experiments.supervised import (
    EVALUATION_SEED,
    SupervisedExperiment,
)
from maml_tf.learner.learner import Learner
from maml_tf.methods.registry import METHODS
from maml_tf.models import conv_net, dense_image_net
from maml_tf.tasks.few_shot import Episodes
from maml_tf.training.config import TrainingConfig

SMALLEST_POOLED = 16  # pixels of a side, for four max-pools


@dataclasses.dataclass(frozen=True)
class ImageConfig(TrainingConfig):
    """Few-shot image classification: section 5.2 of the paper.

    The defaults are those of Omniglot, 5-way; `ImageSource.configure` has
    those of the other data sets.
    """

    pretrain_iterations: int = 0
    metatrain_iterations: int = 60_000
    meta_batch_size: int = 32
    num_shots: int = 1
    alpha: float = 0.4
    num_steps: int = 1
    norm: str | None = "batch_norm"
    # Name of the data set.
    datasource: str = "omniglot"
    # N, classes of a task.
    num_ways: int = 5
    # Q, query images of a class in training; None takes K.
    num_queries: int | None = None
    # Classes of a task in training; None takes N.
    train_ways: int | None = None
    # Support images of a class in training; None takes K.
    train_shots: int | None = None
    # Convolutional network; else the non-convolutional one of appendix A.1.
    conv: bool = True
    # Filters of a convolution.
    num_filters: int = 64
    # Max-pool rather than stride.
    max_pool: bool = False
    # Standard deviation of the last layer's initial weights; None: the paper's.
    head_init: float | None = None
    # Bound of each element of the meta-gradient, or None.
    clip: float | None = None

    MINIMA: ClassVar[dict[str, int]] = {
        **TrainingConfig.MINIMA,
        "num_ways": 2,
        "num_queries": 1,
        "train_ways": 2,
        "train_shots": 1,
        "num_filters": 1,
    }

    def __post_init__(self):
        for name, other in (
            ("num_queries", "num_shots"),
            ("train_ways", "num_ways"),
            ("train_shots", "num_shots"),
        ):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(self, other))
        super().__post_init__()
        if (
            self.train_ways != self.num_ways
            and METHODS[self.method].fixed_outputs
        ):
            raise ConfigError(
                f"The network of method={self.method} has an output for each "
                "class of a task, so train_ways and num_ways must agree. "
                f"Received: train_ways={self.train_ways}, "
                f"num_ways={self.num_ways}",
                "method",
                "train_ways",
                "num_ways",
            )
        episodes = (self.train_ways, self.train_shots)
        if (
            episodes != (self.num_ways, self.num_shots)
            and self.meta_method.train_batch_size is not None
        ):
            raise ConfigError(
                f"method={self.method} trains on batches of all classes. Leave "
                "out train_ways and train_shots.",
                "method",
                "train_ways",
                "train_shots",
            )
        if not re.fullmatch(r"[\w-]+", self.datasource, re.ASCII):
            raise ConfigError(
                "datasource must be the name of a data set: letters, digits, "
                f"_ and -. Received: datasource={self.datasource}",
                "datasource",
            )
        if self.max_pool and not self.conv:
            raise ConfigError(
                "max_pool is for convolutional networks; leave it out, or set "
                "conv.",
                "max_pool",
                "conv",
            )
        if self.clip is not None and not (
            math.isfinite(self.clip) and self.clip > 0
        ):
            raise ConfigError(
                "clip must be a positive number or None. Received: "
                f"clip={self.clip}",
                "clip",
            )
        self._check_head()

    def _check_head(self) -> None:
        if self.head_init is None:
            return
        if not (math.isfinite(self.head_init) and self.head_init >= 0):
            raise ConfigError(
                "head_init must be a number, at least 0. Received: "
                f"head_init={self.head_init}",
                "head_init",
            )
        if not METHODS[self.method].fixed_outputs:
            raise ConfigError(
                "head_init is of the last layer; the network of "
                f"method={self.method} has none.",
                "head_init",
                "method",
            )
        if self.method_settings.get("zero_head"):
            raise ConfigError(
                "zero_head sets the head to zero; leave out head_init.",
                "zero_head",
                "head_init",
            )

    @property
    def identity(self) -> dict[str, Any]:
        fields = super().identity
        if not self.conv:
            del fields["num_filters"]
        return fields

    @property
    def run_name(self) -> str:
        """Name of the run's directory: everything that training depends on.

        Two runs that differ in anything but the number of iterations have
        different names.
        """
        network = (
            f"conv{self.num_filters}" + (".maxpool" if self.max_pool else "")
            if self.conv
            else "noconv"
        )
        queries = self.num_queries
        return ".".join(
            [
                self.datasource,
                f"cls_{self.num_ways}",
                network,
                *self._name_parts(),
                *([f"query_{queries}"] if queries != self.num_shots else []),
                *self._training_parts(),
                *(
                    [f"head_{self.head_init:g}"]
                    if self.head_init is not None
                    else []
                ),
                *([f"clip{self.clip:g}"] if self.clip else []),
            ]
        )

    def _training_parts(self) -> list[str]:
        """Parts of a run's name, if training has other tasks."""
        pairs = (
            ("trainways", self.train_ways, self.num_ways),
            ("trainshots", self.train_shots, self.num_shots),
        )
        return [f"{name}_{x}" for name, x, other in pairs if x != other]


class ImageExperiment(SupervisedExperiment):
    """The paper's network for images, and tasks of a data set.

    Attributes:
        images: those of the data set, with the splits `train`, `validation`
            and `test`.
        letters: whether a rotated image shows another character.
    """

    config: ImageConfig
    reports = ACCURACY
    validates = True
    checkpoint_every = 500  # iterations, as the original validates

    def __init__(
        self, config: ImageConfig, images: PackedImages, letters: bool = False
    ):
        """
        Args:
            config: the settings.
            images, letters: as the attributes.

        Raises:
            DataError: if the images are too small for the network.
        """
        shape = images.splits["train"].image_shape
        if config.max_pool and min(shape[:2]) < SMALLEST_POOLED:
            raise DataError(
                f"Four max-pools need images of at least {SMALLEST_POOLED} "
                f"pixels, but those of {config.datasource} have {shape[:2]}. "
                "Set max_pool=False.",
                "max_pool",
            )
        # Without a last layer, the outputs are embeddings.
        fixed = config.meta_method.fixed_outputs
        num_ways = config.num_ways if fixed else None
        if config.conv:
            model = conv_net(
                shape,
                num_ways,
                config.num_filters,
                config.max_pool,
                config.norm,
                config.seed,
                config.head_init,
            )
        else:
            model = dense_image_net(
                shape, num_ways, config.norm, config.seed, config.head_init
            )
        self.config = config
        self.images = images
        self.letters = letters
        self.clip = config.clip
        method = config.meta_method
        if method.train_batch_size is not None:
            method = method.for_classes(self.tasks("train").num_classes)
        super().__init__(
            config,
            model,
            self._loss(config.train_shots or config.num_shots),
            ["accuracy"],
            method,
        )
        # Networks for letters are trained 1-shot and evaluated 5-shot, too.
        self.evaluation_shots = (
            (1, 5) if config.num_shots == 1 and letters else (config.num_shots,)
        )
        if config.norm == "batch_norm":
            self.statistics = config.meta_method.statistics

    def evaluated(self, num_shots: int) -> Learner:
        return self.learner.with_loss(self._loss(num_shots))

    def exported(self) -> tuple[str, ObjectiveFn]:
        objective = scaled_cross_entropy_of_labels(self.config.num_ways)
        if self.config.meta_method.mean_loss:
            objective = keras.losses.SparseCategoricalCrossentropy(
                from_logits=True
            )
        return "classification", objective

    def _loss(self, num_shots: int) -> ObjectiveFn:
        if self.config.meta_method.mean_loss:
            return keras.losses.CategoricalCrossentropy(from_logits=True)
        return scaled_cross_entropy(num_shots)

    def tasks(
        self,
        split: str,
        num_shots: int | None = None,
        num_queries: int | None = None,
    ) -> Episodes:
        config = self.config
        num_ways = config.num_ways
        if num_shots is None and num_queries is None:
            num_queries = config.num_queries
            if split == "train":
                num_ways = config.train_ways or num_ways
                num_shots = config.train_shots
        num_shots = num_shots or config.num_shots
        try:
            return Episodes(
                self.images.splits[split],
                num_ways,
                num_shots,
                num_queries or num_shots,
                config.seed if split == "train" else EVALUATION_SEED,
                split,
                rotations=self.letters,
                num_query_sets=(
                    config.method_settings.get("train_query_sets", 1)
                    if split == "train"
                    else 1
                ),
            )
        except DataError as e:
            if split != "train" or config.train_ways == config.num_ways:
                raise
            message = str(e).replace("num_ways", "train_ways")
            raise DataError(message, "train_ways", *e.fields) from e
