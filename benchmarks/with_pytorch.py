"""PyTorch: `torch.func.vmap` over the tasks, and a loop over them."""

import numpy as np
import torch
from implementation import Stepper
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F
from workloads import BETA, HIDDEN_DIM, ConvNet, Examples, Tasks, Workload

Parameters = dict[str, torch.Tensor]


class BatchNorm(torch.nn.Module):
    """Uses the batch's own statistics, with an offset but no scale."""

    def __init__(self, channels: int):
        super().__init__()
        self.offset = torch.nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(
            x, None, None, bias=self.offset, training=True, eps=1e-3
        )


class FlattenedPixels(torch.nn.Module):
    """Channels last, as TensorFlow flattens."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.movedim(1, -1).flatten(1)


def dense_net() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(1, HIDDEN_DIM),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN_DIM, HIDDEN_DIM),
        torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN_DIM, 1),
    )


def conv_net(net: ConvNet) -> torch.nn.Module:
    layers = []
    for *_, channels, filters in net.kernel_shapes:
        stride = 1 if net.max_pool else 2
        layers += [
            torch.nn.Conv2d(channels, filters, 3, stride=stride, padding=1),
            BatchNorm(filters),
            torch.nn.ReLU(),
        ]
        if net.max_pool:
            layers.append(torch.nn.MaxPool2d(2))
    if net.max_pool:
        layers.append(FlattenedPixels())
    else:
        layers += [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    return torch.nn.Sequential(
        *layers, torch.nn.Linear(net.features, net.num_ways)
    )


def mean_squared_error(outputs, targets) -> torch.Tensor:
    return F.mse_loss(outputs, targets)


def cross_entropy(logits, targets) -> torch.Tensor:
    """Summed over the examples; K is 1."""
    return F.cross_entropy(logits, targets, reduction="sum")


class PyTorch(Stepper):
    """Network, loss and optimizer of both ways.

    Where TensorFlow's `same` padding is uneven (in convolutions of stride 2)
    it pads below and at the right, PyTorch above and at the left: images and
    kernels are mirrored here, which makes the two the same computation.
    """

    def __init__(self, workload: Workload):
        super().__init__(workload)
        net = workload.net
        if net is None:
            self.net, self._objective = dense_net(), mean_squared_error
        else:
            self.net, self._objective = conv_net(net), cross_entropy
        self._mirrored = net is not None and not net.max_pool
        self.parameters = dict(self.net.named_parameters())
        named = list(
            zip(self.parameters, workload.weights, workload.adapts, strict=True)
        )
        with torch.no_grad():
            for name, value, _ in named:
                value = np.ascontiguousarray(self._to_torch(value))
                self.parameters[name].copy_(torch.from_numpy(value))
        self.adapted = {name for name, _, adapts in named if adapts}
        self._adam = torch.optim.Adam(
            self.net.parameters(), lr=BETA, fused=True
        )
        self._updates = 0

    @staticmethod
    def start(threads: str, precision: str) -> None:
        torch.set_default_dtype(getattr(torch, precision))
        if threads == "one_per_op":
            torch.set_num_threads(1)

    def first_moments(self) -> list[np.ndarray]:
        return [
            self._to_keras(self._adam.state[p]["exp_avg"].numpy())
            for p in self.parameters.values()
        ]

    def loss(self, parameters: Parameters, batch: Examples) -> torch.Tensor:
        outputs = functional_call(self.net, parameters, (batch.inputs,))
        return self._objective(outputs, batch.targets)

    def adam_step(self) -> None:
        """Updates the parameters from their `grad`.

        PyTorch adds epsilon after the correction of the second moment's bias,
        the paper's code (and Keras) before: it is scaled to make up for that.
        """
        if self.workload.clip:
            torch.nn.utils.clip_grad_value_(
                self.net.parameters(), self.workload.clip
            )
        self._updates += 1
        correction = (1 - 0.999**self._updates) ** 0.5
        self._adam.param_groups[0]["eps"] = 1e-8 / correction
        self._adam.step()

    def adapt(self, parameters: Parameters, support: Examples, gradient_of):
        """The parameters after the inner updates, and the loss before them.

        Args:
            parameters: by name.
            support: examples.
            gradient_of: (parameters, those to adapt, examples) -> (gradients
                by name, loss).
        """
        losses = []
        for _ in range(self.workload.num_steps):
            adapted = {n: parameters[n] for n in self.adapted}
            gradients, loss = gradient_of(parameters, adapted, support)
            losses.append(loss)
            moved = {
                n: p - self.workload.alpha * gradients[n]
                for n, p in adapted.items()
            }
            parameters = {**parameters, **moved}
        return parameters, losses[0]

    def as_tensors(self, tasks: Tasks) -> Tasks:
        """The one batch of tasks; images with channels first."""

        def tensors(batch: Examples) -> Examples:
            inputs = torch.from_numpy(batch.inputs[0])
            if self._mirrored:
                inputs = inputs.flip(2, 3)
            if inputs.ndim == 5:
                inputs = inputs.movedim(-1, 2)
            return Examples(inputs, torch.from_numpy(batch.targets[0]))

        return Tasks(*map(tensors, tasks))

    def _to_torch(self, value: np.ndarray) -> np.ndarray:
        """A Keras weight in PyTorch's layout."""
        if value.ndim == 4 and self._mirrored:
            value = value[::-1, ::-1]
        return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T

    def _to_keras(self, value: np.ndarray) -> np.ndarray:
        """The inverse of `_to_torch`."""
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
            return value[::-1, ::-1] if self._mirrored else value
        return value.T


class Vmap(PyTorch):
    """`torch.func`: the gradient of the mean of losses mapped over tasks."""

    def take_steps(self, tasks: Tasks) -> tuple[np.ndarray, np.ndarray]:
        gradients, (post, pre) = self.meta_gradient(self.as_tensors(tasks))
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name].detach()
        self.adam_step()
        return pre.detach().numpy()[None], post.detach().numpy()[None]

    def meta_gradient(self, tasks: Tasks):
        """Gradient by name, and mean losses (post, pre)."""

        def mean_loss(parameters):
            losses = vmap(self.task_losses, in_dims=(None, 0))
            post, pre = losses(parameters, tasks)
            return post.mean(), pre.mean()

        return grad_and_value(mean_loss, has_aux=True)(self.parameters)

    def task_losses(self, parameters: Parameters, task: Tasks):
        """Losses of one task: (post, pre)."""
        moved, pre = self.adapt(parameters, task.support, self.inner_gradient)
        return self.loss(moved, task.query), pre

    def inner_gradient(self, parameters, adapted, support: Examples):
        gradients, loss = grad_and_value(
            lambda some: self.loss({**parameters, **some}, support)
        )(adapted)
        if self.workload.first_order:
            gradients = {n: g.detach() for n, g in gradients.items()}
        return gradients, loss


class VmapOfGradients(Vmap):
    """`torch.func`: the mean of gradients mapped over tasks."""

    def meta_gradient(self, tasks: Tasks):
        gradients, (post, pre) = vmap(self.task_gradient, in_dims=(None, 0))(
            self.parameters, tasks
        )
        means = {name: g.mean(0) for name, g in gradients.items()}
        return means, (post.mean(), pre.mean())

    def task_gradient(self, parameters: Parameters, task: Tasks):
        """Gradient of one task's query loss, and its losses."""
        if not self.workload.first_order:
            return grad_and_value(self.task_losses, has_aux=True)(
                parameters, task
            )
        # The query loss' gradient where the updates end.
        moved, pre = self.adapt(parameters, task.support, self.inner_gradient)
        gradient, post = grad_and_value(self.loss)(moved, task.query)
        return gradient, (post, pre)


class Compiled(Vmap):
    """Compiles the meta-gradient with `torch.compile`, but not Adam's step."""

    def __init__(self, workload: Workload):
        super().__init__(workload)
        self.meta_gradient = torch.compile(self.meta_gradient)


class VmapCompiled(Compiled):
    """`Vmap`, compiled."""


class VmapOfGradientsCompiled(Compiled, VmapOfGradients):
    """`VmapOfGradients`, compiled."""


class Loop(PyTorch):
    """One task after the other, `create_graph=True`."""

    def take_steps(self, tasks: Tasks) -> tuple[np.ndarray, np.ndarray]:
        num_tasks = self.workload.meta_batch_size
        tasks = self.as_tensors(tasks)
        self._adam.zero_grad()
        pres, posts = [], []
        for i in range(num_tasks):
            support, query = (Examples(x[i], y[i]) for x, y in tasks)
            moved, pre = self.adapt(
                self.parameters, support, self.inner_gradient
            )
            post = self.loss(moved, query)
            (post / num_tasks).backward()
            pres.append(pre.detach())
            posts.append(post.detach())
        self.adam_step()
        return (
            torch.stack(pres).mean().numpy()[None],
            torch.stack(posts).mean().numpy()[None],
        )

    def inner_gradient(self, parameters, adapted, support: Examples):
        loss = self.loss(parameters, support)
        gradients = torch.autograd.grad(
            loss,
            tuple(adapted.values()),
            create_graph=not self.workload.first_order,
        )
        return dict(zip(adapted, gradients, strict=True)), loss
