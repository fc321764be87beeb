"""TensorFlow 2 in the original code's formulation of the meta-step."""

import keras
import numpy as np
import tensorflow as tf
from implementation import Stepper
from with_maml_tf import as_tasks, build_network, make_adam
from workloads import Tasks, Workload

from maml_tf.maml import Task, adapt
from maml_tf.normalization import which_adapt
from maml_tf.runtime import start_tensorflow


class GradientOutsideMap(Stepper):
    """`tf.map_fn` gives each task's losses; the tape is around all of it."""

    def __init__(self, workload: Workload):
        super().__init__(workload)
        model, loss = build_network(workload)
        adapts = which_adapt(model)
        adam = make_adam(model)
        dtype = model.dtype

        def task_losses(task: Task):
            theta = [tf.convert_to_tensor(v) for v in model.trainable_variables]
            adaptation = adapt(
                loss, theta, [task.support], workload.alpha, adapts=adapts
            )
            post = loss(adaptation.iterates[-1], task.query)
            return adaptation.losses[0], post

        @tf.function
        def step(tasks: Task):
            with tf.GradientTape() as tape:
                pre, post = tf.map_fn(
                    task_losses,
                    tasks,
                    fn_output_signature=(dtype, dtype),
                    parallel_iterations=workload.meta_batch_size,
                )
                mean_post = tf.reduce_mean(post)
            adam.apply(
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
