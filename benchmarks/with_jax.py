"""JAX: the compiled meta-step.

The framework's own functions and nothing else: networks, losses and Adam are
written out.
"""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
from implementation import Stepper
from workloads import BETA, ConvNet, Examples, Tasks, Workload

STEPS_PER_CALL = 50


def sinusoid_loss(theta, batch: Examples) -> jax.Array:
    """Mean squared error of a dense network."""
    x = batch.inputs
    for i in range(0, len(theta) - 2, 2):
        x = jax.nn.relu(x @ theta[i] + theta[i + 1])
    outputs = x @ theta[-2] + theta[-1]
    return jnp.mean(jnp.square(outputs - batch.targets))


def image_loss(net: ConvNet, convolve, theta, batch: Examples) -> jax.Array:
    """Cross-entropy of the convolutional network, summed; K is 1."""
    x = batch.inputs
    for i in range(0, len(theta) - 2, 3):
        kernel, bias, offset = theta[i : i + 3]
        x = convolve(x, kernel, 1 if net.max_pool else 2) + bias
        mean = jnp.mean(x, (0, 1, 2))
        variance = jnp.mean(jnp.square(x - mean), (0, 1, 2))
        x = jax.nn.relu((x - mean) * jax.lax.rsqrt(variance + 1e-3) + offset)
        if net.max_pool:
            x = max_pool(x)
    x = x.reshape(len(x), -1) if net.max_pool else jnp.mean(x, (1, 2))
    logits = x @ theta[-2] + theta[-1]
    return -jnp.sum(batch.targets * jax.nn.log_softmax(logits))


def convolution(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """JAX's own, with `same` padding."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def matrix_product(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """The same as a product with the patches that the kernel sees."""
    outputs = [-(-size // stride) for size in x.shape[1:3]]
    spans = [(count - 1) * stride + 1 for count in outputs]
    totals = [s + 2 - n for s, n in zip(spans, x.shape[1:3], strict=True)]
    margins = [(n // 2, n - n // 2) for n in totals]
    x = jnp.pad(x, [(0, 0), *margins, (0, 0)])
    shifted = [
        x[:, i : i + spans[0] : stride, j : j + spans[1] : stride]
        for i in range(3)
        for j in range(3)
    ]
    patches = jnp.concatenate(shifted, -1)
    return patches @ kernel.reshape(-1, kernel.shape[-1])


def max_pool(x: jax.Array) -> jax.Array:
    """2x2; `reduce_window` takes longer to differentiate twice.

    Gradients of `jnp.max` and `jnp.maximum` look for the operand that equals
    the result. Compiled, that can fail (XLA may compute the operand twice and
    round it differently), and the gradient is lost.
    """
    height, width = (size // 2 * 2 for size in x.shape[1:3])
    corners = [x[:, i:height:2, j:width:2] for i in (0, 1) for j in (0, 1)]
    return functools.reduce(lambda a, b: jnp.where(a > b, a, b), corners)


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


class Jax(Stepper):
    """State, losses and optimizer of all ways."""

    convolve = staticmethod(convolution)

    def __init__(self, workload: Workload):
        super().__init__(workload)
        theta = [jnp.asarray(w) for w in workload.weights]
        zeros = [jnp.zeros_like(t) for t in theta]
        copies = [jnp.zeros_like(t) for t in theta]
        self._state = theta, zeros, copies, jnp.zeros(())
        self._loss = sinusoid_loss
        if workload.net:
            self._loss = functools.partial(
                image_loss, workload.net, self.convolve
            )

    @staticmethod
    def start(threads: str, precision: str) -> None:
        jax.config.update("jax_enable_x64", precision == "float64")
        if threads == "one_per_op":
            os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
            jax.config.update("jax_num_cpu_devices", os.cpu_count())
        jax.jit(jnp.sin)(0.0).block_until_ready()

    def first_moments(self) -> list[np.ndarray]:
        return [np.asarray(m) for m in self._state[1]]

    def task_losses(self, theta, task: Tasks):
        """Losses of one task: (post, pre)."""
        workload, pres = self.workload, []
        for _ in range(workload.num_steps):
            pre, gradient = jax.value_and_grad(self._loss)(theta, task.support)
            if workload.first_order:
                gradient = jax.lax.stop_gradient(gradient)
            pres.append(pre)
            theta = [
                t - workload.alpha * g if adapts else t
                for t, g, adapts in zip(
                    theta, gradient, workload.adapts, strict=True
                )
            ]
        return self._loss(theta, task.query), pres[0]

    def update(self, state, gradient):
        """The state after a meta-gradient."""
        clip = self.workload.clip
        if clip:
            gradient = [jnp.clip(g, -clip, clip) for g in gradient]
        return adam(state, gradient)


class Vmap(Jax):
    """One jitted step a call, tasks by `jax.vmap`."""

    def __init__(self, workload: Workload):
        super().__init__(workload)
        self._steps = jax.jit(self._take, donate_argnums=0)

    def take_steps(self, tasks: Tasks) -> tuple[np.ndarray, np.ndarray]:
        self._state, (pre, post) = self._steps(self._state, tasks)
        return np.asarray(pre), np.asarray(post)

    def step(self, state, tasks: Tasks):
        """One meta-step."""

        def mean_loss(theta):
            losses = functools.partial(self.task_losses, theta)
            post, pre = jax.vmap(losses)(tasks)
            return jnp.mean(post), jnp.mean(pre)

        gradient_of = jax.value_and_grad(mean_loss, has_aux=True)
        (post, pre), gradient = gradient_of(state[0])
        return self.update(state, gradient), (pre, post)

    def _take(self, state, tasks: Tasks):
        state, losses = self.step(state, jax.tree.map(lambda x: x[0], tasks))
        return state, jax.tree.map(lambda x: x[None], losses)


class VmapScan(Vmap):
    """Many steps a call by `jax.lax.scan`."""

    window = STEPS_PER_CALL

    def _take(self, state, tasks: Tasks):
        return jax.lax.scan(self.step, state, tasks)


class TaskByTask(Jax):
    """A jitted call for each task, dealt to all devices.

    There is one device, or with `one_per_op` one for each core; calls return
    before they are done, so that devices work side by side.
    """

    def __init__(self, workload: Workload):
        super().__init__(workload)
        gradient_of = jax.value_and_grad(self.task_losses, has_aux=True)
        self._devices = jax.devices()
        zeros = ((jnp.zeros(()), jnp.zeros(())), self._state[1])
        self._zeros = [jax.device_put(zeros, d) for d in self._devices]
        self._added = jax.jit(
            lambda total, theta, task: jax.tree.map(
                jnp.add, total, gradient_of(theta, task)
            )
        )
        self._updated = jax.jit(self._update_from_totals)

    def take_steps(self, tasks: Tasks) -> tuple[np.ndarray, np.ndarray]:
        totals = list(self._zeros)
        thetas = [jax.device_put(self._state[0], d) for d in self._devices]
        for i in range(self.workload.meta_batch_size):
            task = jax.tree.map(lambda x, i=i: x[0, i], tasks)
            k = i % len(totals)
            totals[k] = self._added(totals[k], thetas[k], task)
        totals = [jax.device_put(t, self._devices[0]) for t in totals]
        self._state, (pre, post) = self._updated(self._state, totals)
        return np.asarray(pre)[None], np.asarray(post)[None]

    def _update_from_totals(self, state, totals):
        num_tasks = self.workload.meta_batch_size
        (post, pre), gradient = jax.tree.map(
            lambda *parts: sum(parts) / num_tasks, *totals
        )
        return self.update(state, gradient), (pre, post)


class TaskByTaskProducts(TaskByTask):
    """The same with convolutions written as products of matrices."""

    convolve = staticmethod(matrix_product)
