"""Model-Agnostic Meta-Learning in TensorFlow 2 and Keras 3."""

from maml_tf.runtime import quiet_startup

with quiet_startup():
    from maml_tf.gradient_check import MetaGradientCheck, check_meta_gradient
    from maml_tf.losses import (
        Batch,
        cross_entropy,
        mean_squared_error,
        predict,
        supervised,
    )
    from maml_tf.maml import (
        Adaptation,
        MetaGradient,
        Task,
        adapt,
        inner_update,
        joint_gradient,
        meta_gradient,
        task_meta_gradient,
    )
    from maml_tf.meta_step import MetaStep
    from maml_tf.models import conv_net, dense_net
    from maml_tf.normalization import (
        BatchNormalization,
        GroupNormalization,
        LayerNormalization,
        use_exact_normalization,
        which_adapt,
    )

__version__ = "0.1.0"

__all__ = [
    "Adaptation",
    "Batch",
    "BatchNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "MetaGradient",
    "MetaGradientCheck",
    "MetaStep",
    "Task",
    "adapt",
    "which_adapt",
    "check_meta_gradient",
    "conv_net",
    "cross_entropy",
    "dense_net",
    "inner_update",
    "joint_gradient",
    "mean_squared_error",
    "meta_gradient",
    "predict",
    "supervised",
    "task_meta_gradient",
    "use_exact_normalization",
]
