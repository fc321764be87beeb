"""PyTorch: `torch.func.vmap` over the tasks, and a loop over them."""

import numpy as np
import torch
from implementation import Stepper
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F
from workloads import BETA, NUM_WAYS, Examples, Tasks, Workload


class BatchNorm(torch.nn.Module):
    """By the batch's own statistics, with an offset but no scale."""

    def __init__(self, channels: int):
        super().__init__()
        self.offset = torch.nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(
            x, None, None, bias=self.offset, training=True, eps=1e-3
        )


def dense_net() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(1, 40),
        torch.nn.ReLU(),
        torch.nn.Linear(40, 40),
        torch.nn.ReLU(),
        torch.nn.Linear(40, 1),
    )


def conv_net() -> torch.nn.Module:
    layers = []
    for channels in (1, 64, 64, 64):
        layers += [
            torch.nn.Conv2d(channels, 64, 3, stride=2, padding=1),
            BatchNorm(64),
            torch.nn.ReLU(),
        ]
    return torch.nn.Sequential(
        *layers,
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(64, NUM_WAYS),
    )


def mean_squared_error(outputs, targets) -> torch.Tensor:
    return F.mse_loss(outputs, targets)


def cross_entropy(logits, targets) -> torch.Tensor:
    """Summed over the examples; K is 1."""
    return F.cross_entropy(logits, targets, reduction="sum")


class PyTorch(Stepper):
    """Network, loss and optimizer of both ways.

    Where TensorFlow's `same` padding is uneven it pads below and at the right,
    PyTorch above and at the left: images and kernels are mirrored here, which
    makes the two the same computation.
    """

    def __init__(self, workload: Workload):
        super().__init__(workload)
        if workload.name == "sinusoid":
            self.net, self._objective = dense_net(), mean_squared_error
        else:
            self.net, self._objective = conv_net(), cross_entropy
        self.parameters = dict(self.net.named_parameters())
        named = list(
            zip(self.parameters, workload.weights, workload.adapts, strict=True)
        )
        with torch.no_grad():
            for name, value, _ in named:
                self.parameters[name].copy_(torch.from_numpy(_weight(value)))
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

    def loss(self, parameters: dict[str, torch.Tensor], batch: Examples):
        outputs = functional_call(self.net, parameters, (batch.inputs,))
        return self._objective(outputs, batch.targets)

    def adam_step(self) -> None:
        """Updates the parameters from their `grad`.

        PyTorch adds epsilon after the correction of the second moment's bias,
        the paper's code (and Keras) before: it is scaled to make up for that.
        """
        self._updates += 1
        correction = (1 - 0.999**self._updates) ** 0.5
        self._adam.param_groups[0]["eps"] = 1e-8 / correction
        self._adam.step()

    def updated(
        self,
        parameters: dict[str, torch.Tensor],
        gradients: dict[str, torch.Tensor],
    ) -> dict[str, torch.Tensor]:
        """The parameters after an inner update."""
        alpha = self.workload.alpha
        return {
            name: p - alpha * gradients[name] if name in gradients else p
            for name, p in parameters.items()
        }


class Vmap(PyTorch):
    """`torch.func`: the gradient of the mean of losses mapped over tasks."""

    def take_steps(self, tasks: Tasks) -> tuple[np.ndarray, np.ndarray]:
        gradients, (post, pre) = self.meta_gradient(_as_tensors(tasks))
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

    def task_losses(self, parameters, task: Tasks):
        """Losses of one task: (post, pre)."""
        adapted = {n: p for n, p in parameters.items() if n in self.adapted}
        gradients, pre = grad_and_value(
            lambda some: self.loss({**parameters, **some}, task.support)
        )(adapted)
        return self.loss(self.updated(parameters, gradients), task.query), pre


class VmapOfGradients(Vmap):
    """`torch.func`: the mean of gradients mapped over tasks."""

    def meta_gradient(self, tasks: Tasks):
        task_gradient = grad_and_value(self.task_losses, has_aux=True)
        gradients, (post, pre) = vmap(task_gradient, in_dims=(None, 0))(
            self.parameters, tasks
        )
        means = {name: g.mean(0) for name, g in gradients.items()}
        return means, (post.mean(), pre.mean())


class Loop(PyTorch):
    """One task after the other, `create_graph=True`."""

    def take_steps(self, tasks: Tasks) -> tuple[np.ndarray, np.ndarray]:
        num_tasks = self.workload.meta_batch_size
        tasks = _as_tensors(tasks)
        self._adam.zero_grad()
        pres, posts = [], []
        for i in range(num_tasks):
            support, query = (Examples(x[i], y[i]) for x, y in tasks)
            pre = self.loss(self.parameters, support)
            adapted = {n: self.parameters[n] for n in self.adapted}
            gradients = torch.autograd.grad(
                pre, tuple(adapted.values()), create_graph=True
            )
            gradients = dict(zip(adapted, gradients, strict=True))
            post = self.loss(self.updated(self.parameters, gradients), query)
            (post / num_tasks).backward()
            pres.append(pre.detach())
            posts.append(post.detach())
        self.adam_step()
        return (
            torch.stack(pres).mean().numpy()[None],
            torch.stack(posts).mean().numpy()[None],
        )


def _weight(value: np.ndarray) -> np.ndarray:
    """A Keras weight in PyTorch's layout; kernels of images mirrored."""
    if value.ndim == 4:
        value = value[::-1, ::-1].transpose(3, 2, 0, 1)
    return np.ascontiguousarray(value.T if value.ndim == 2 else value)


def _as_tensors(tasks: Tasks) -> Tasks:
    """The one batch of tasks; images with channels first, mirrored."""

    def tensors(batch: Examples) -> Examples:
        inputs = torch.from_numpy(batch.inputs[0])
        if inputs.ndim == 5:
            inputs = inputs.flip(2, 3).movedim(-1, 2)
        return Examples(inputs, torch.from_numpy(batch.targets[0]))

    return Tasks(*map(tensors, tasks))
