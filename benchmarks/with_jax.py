"""JAX: the compiled meta-step, one or many a call, tasks by vmap or unrolled.

The framework's own functions and nothing else: networks, losses and Adam are
written out.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from implementation import Stepper
from workloads import BETA, Examples, Tasks, Workload

STEPS_PER_CALL = 50


def sinusoid_loss(theta, batch: Examples) -> jax.Array:
    """Mean squared error of a dense network."""
    x = batch.inputs
    for i in range(0, len(theta) - 2, 2):
        x = jax.nn.relu(x @ theta[i] + theta[i + 1])
    outputs = x @ theta[-2] + theta[-1]
    return jnp.mean(jnp.square(outputs - batch.targets))


def omniglot_loss(theta, batch: Examples) -> jax.Array:
    """Cross-entropy of the convolutional network, summed; K is 1."""
    x = batch.inputs
    for i in range(0, len(theta) - 2, 3):
        kernel, bias, offset = theta[i : i + 3]
        x = jax.lax.conv_general_dilated(
            x,
            kernel,
            window_strides=(2, 2),
            padding="SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        x = x + bias
        mean = jnp.mean(x, (0, 1, 2))
        variance = jnp.mean(jnp.square(x - mean), (0, 1, 2))
        x = jax.nn.relu((x - mean) * jax.lax.rsqrt(variance + 1e-3) + offset)
    logits = jnp.mean(x, (1, 2)) @ theta[-2] + theta[-1]
    return -jnp.sum(batch.targets * jax.nn.log_softmax(logits))


LOSSES = {"sinusoid": sinusoid_loss, "omniglot": omniglot_loss}


def adam(state, gradient):
    """One update of (theta, m, v, number of updates)."""
    theta, m, v, count = state
    count = count + 1
    m = [0.9 * m + 0.1 * g for m, g in zip(m, gradient, strict=True)]
    v = [0.999 * v + 0.001 * g * g for v, g in zip(v, gradient, strict=True)]
    rate = BETA * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    theta = [
        t - rate * m / (jnp.sqrt(v) + 1e-8)
        for t, m, v in zip(theta, m, v, strict=True)
    ]
    return theta, m, v, count


class Vmap(Stepper):
    """One jitted step a call, tasks by `jax.vmap`."""

    def __init__(self, workload: Workload):
        super().__init__(workload)
        theta = [jnp.asarray(w) for w in workload.weights]
        zeros = [jnp.zeros_like(t) for t in theta]
        copies = [jnp.zeros_like(t) for t in theta]
        self._state = theta, zeros, copies, jnp.zeros(())
        self._steps = jax.jit(self._take, donate_argnums=0)

    @staticmethod
    def start(threads: str, precision: str) -> None:
        jax.config.update("jax_enable_x64", precision == "float64")
        jax.jit(jnp.sin)(0.0).block_until_ready()

    def take_steps(self, tasks: Tasks) -> tuple[np.ndarray, np.ndarray]:
        self._state, (pre, post) = self._steps(self._state, tasks)
        return np.asarray(pre), np.asarray(post)

    def mean_loss(self, theta, tasks: Tasks):
        """Mean losses over the tasks: (post, pre)."""
        task_losses = functools.partial(self.task_losses, theta)
        post, pre = jax.vmap(task_losses)(tasks)
        return jnp.mean(post), jnp.mean(pre)

    def task_losses(self, theta, task: Tasks):
        """Losses of one task: (post, pre)."""
        loss = LOSSES[self.workload.name]
        pre, gradient = jax.value_and_grad(loss)(theta, task.support)
        alpha = self.workload.alpha
        moved = [
            t - alpha * g if adapts else t
            for t, g, adapts in zip(
                theta, gradient, self.workload.adapts, strict=True
            )
        ]
        return loss(moved, task.query), pre

    def step(self, state, tasks: Tasks):
        """One meta-step."""
        gradient_of = jax.value_and_grad(self.mean_loss, has_aux=True)
        (post, pre), gradient = gradient_of(state[0], tasks)
        return adam(state, gradient), (pre, post)

    def _take(self, state, tasks: Tasks):
        state, losses = self.step(state, jax.tree.map(lambda x: x[0], tasks))
        return state, jax.tree.map(lambda x: x[None], losses)


class VmapScan(Vmap):
    """Many steps a call by `jax.lax.scan`."""

    window = STEPS_PER_CALL

    def _take(self, state, tasks: Tasks):
        return jax.lax.scan(self.step, state, tasks)


class Unrolled(Vmap):
    """One jitted step a call, tasks one after the other in the program.

    On a CPU a mapped convolution is several times slower than this.
    """

    def mean_loss(self, theta, tasks: Tasks):
        losses = [
            self.task_losses(theta, jax.tree.map(lambda x, i=i: x[i], tasks))
            for i in range(self.workload.meta_batch_size)
        ]
        post, pre = map(jnp.stack, zip(*losses, strict=True))
        return jnp.mean(post), jnp.mean(pre)
