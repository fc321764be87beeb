"""The public names, which `maml_tf` re-exports."""

from maml_tf.core.batch import Batch, WeightedBatch
from maml_tf.core.gradient_check import (
    MetaGradientCheck,
    check_meta_gradient,
)
from maml_tf.core.losses import cross_entropy, mean_squared_error, supervised
from maml_tf.core.maml import (
    Adaptation,
    MetaGradient,
    Task,
    adapt,
    inner_update,
    joint_gradient,
    meta_gradient,
    task_meta_gradient,
)
from maml_tf.core.meta_step import MetaStep
from maml_tf.core.prediction import predict
from maml_tf.core.task_stream import NumberedTask
from maml_tf.datasets.image_preparation import ImagePreparation
from maml_tf.layers.context import Context
from maml_tf.layers.convolution import Conv2D
from maml_tf.layers.normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    use_exact_normalization,
    which_adapt,
)
from maml_tf.layers.normalized_convolution import NormalizedConv2D
from maml_tf.layers.resizing import use_exact_resizing
from maml_tf.learner.adapted_model import AdaptedModel
from maml_tf.learner.learner import Learner
from maml_tf.learner.scores import Scores
from maml_tf.methods.averages import ParameterAverages
from maml_tf.methods.classifier import FineTuning, NearestNeighbor
from maml_tf.methods.context import ContextVector
from maml_tf.methods.imaml import ImplicitMAML
from maml_tf.methods.joint import JointTraining
from maml_tf.methods.maml import MAML
from maml_tf.methods.matching import MatchingNetworks
from maml_tf.methods.meta_sgd import MetaSGD, meta_sgd_gradient
from maml_tf.methods.method import Method
from maml_tf.methods.prototypical import PrototypicalNetworks
from maml_tf.methods.reptile import Reptile
from maml_tf.methods.siamese import SiameseNetworks
from maml_tf.models import conv_net, dense_net, koch_net
from maml_tf.runtime import start_tensorflow
from maml_tf.tasks.sources import (
    tasks_from_arrays,
    tasks_from_dataset,
    tasks_from_folder,
    tasks_from_function,
    tasks_from_series,
)
from maml_tf.training.history import History

__all__ = [
    "AdaptedModel",
    "Adaptation",
    "Batch",
    "BatchNormalization",
    "Context",
    "ContextVector",
    "Conv2D",
    "FineTuning",
    "GroupNormalization",
    "History",
    "ImplicitMAML",
    "ImagePreparation",
    "LayerNormalization",
    "Learner",
    "JointTraining",
    "MAML",
    "MatchingNetworks",
    "MetaGradient",
    "MetaSGD",
    "Method",
    "NearestNeighbor",
    "NormalizedConv2D",
    "NumberedTask",
    "ParameterAverages",
    "PrototypicalNetworks",
    "Reptile",
    "MetaGradientCheck",
    "MetaStep",
    "Scores",
    "SiameseNetworks",
    "Task",
    "WeightedBatch",
    "adapt",
    "which_adapt",
    "check_meta_gradient",
    "conv_net",
    "cross_entropy",
    "dense_net",
    "inner_update",
    "joint_gradient",
    "koch_net",
    "mean_squared_error",
    "meta_gradient",
    "meta_sgd_gradient",
    "predict",
    "start_tensorflow",
    "supervised",
    "task_meta_gradient",
    "tasks_from_arrays",
    "tasks_from_dataset",
    "tasks_from_folder",
    "tasks_from_function",
    "tasks_from_series",
    "use_exact_normalization",
    "use_exact_resizing",
]
