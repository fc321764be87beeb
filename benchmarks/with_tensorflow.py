"""TensorFlow 2 in the original code's formulation of the meta-step."""

import keras
import numpy as np
import tensorflow as tf
from implementation import Stepper
from with_maml_tf import as_tasks, build_network, first_moments, make_adam
from workloads import ConvNet, Tasks, Workload

from maml_tf.core.batch import Batch
from maml_tf.core.maml import LossFn, Params, Task, adapt
from maml_tf.layers.normalization import which_adapt
from maml_tf.runtime import start_tensorflow


def image_loss(net: ConvNet) -> LossFn:
    """The loss of maml_tf's `conv_net`, with TensorFlow's own operations."""
    stride = 1 if net.max_pool else 2

    def logits(theta: Params, x: tf.Tensor) -> tf.Tensor:
        for i in range(0, 12, 3):
            kernel, bias, offset = theta[i : i + 3]
            x = tf.nn.conv2d(x, kernel, stride, "SAME") + bias
            mean = tf.reduce_mean(x, [0, 1, 2])
            # Not tf.nn.moments, whose second derivative is wrong.
            variance = tf.reduce_mean(tf.square(x - mean), [0, 1, 2])
            x = tf.nn.relu(
                tf.nn.batch_normalization(x, mean, variance, offset, None, 1e-3)
            )
            if net.max_pool:
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        if net.max_pool:
            x = tf.reshape(x, [x.shape[0], -1])
        else:
            x = tf.reduce_mean(x, [1, 2])
        return x @ theta[12] + theta[13]

    def loss(theta: Params, batch: Batch) -> tf.Tensor:
        return tf.reduce_sum(
            tf.nn.softmax_cross_entropy_with_logits(
                batch.targets, logits(theta, batch.inputs)
            )
        )

    return loss


class GradientOutsideMap(Stepper):
    """`tf.map_fn` computes each task's losses; the tape is around all of it.

    Attributes:
        jit_compile: whether XLA compiles the step.
    """

    jit_compile = False

    def __init__(self, workload: Workload):
        super().__init__(workload)
        model, loss = build_network(workload)
        if workload.net is not None:
            loss = image_loss(workload.net)
        adapts = which_adapt(model)
        self._adam = make_adam(model, workload)
        dtype = model.dtype

        def task_losses(task: Task):
            theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
            adaptation = adapt(
                loss,
                theta,
                [task.support] * workload.num_steps,
                workload.alpha,
                adapts=adapts,
                first_order=workload.first_order,
            )
            post = loss(adaptation.iterates[-1], task.query)
            return adaptation.losses[0], post

        @tf.function(jit_compile=self.jit_compile)
        def step(tasks: Task):
            with tf.GradientTape() as tape:
                pre, post = tf.map_fn(
                    task_losses,
                    tasks,
                    fn_output_signature=(dtype, dtype),
                    parallel_iterations=workload.meta_batch_size,
                )
                mean_post = tf.reduce_mean(post)
            self._adam.apply(
                tape.gradient(mean_post, model.trainable_variables),
                model.trainable_variables,
            )
            return tf.reduce_mean(pre), mean_post

        self._step = step

    @staticmethod
    def start(threads: str, precision: str) -> None:
        keras.config.set_floatx(precision)
        if threads == "one_per_op":
            start_tensorflow()
        tf.zeros([])

    def take_steps(self, tasks: Tasks) -> tuple[np.ndarray, np.ndarray]:
        one_batch = tf.nest.map_structure(
            lambda x: tf.constant(x[0]), as_tasks(tasks)
        )
        pre, post = self._step(one_batch)
        return pre.numpy()[None], post.numpy()[None]

    def first_moments(self) -> list[np.ndarray]:
        return first_moments(self._adam)


class GradientOutsideMapCompiled(GradientOutsideMap):
    """The same, compiled by XLA."""

    jit_compile = True
