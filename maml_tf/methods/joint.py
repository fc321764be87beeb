"""Ordinary training on all tasks together."""

import dataclasses
from typing import ClassVar

from maml_tf.core.maml import MetaGradient, Params, Task, joint_gradient
from maml_tf.core.network import Network
from maml_tf.methods.gradient import GradientMethod


@dataclasses.dataclass(frozen=True)
class JointTraining(GradientMethod):
    """The paper's pretrained and oracle networks (section 5.1).

    Training descends the loss on support sets, without any adaptation; on a
    new task the network is fine-tuned.
    """

    name: ClassVar[str] = "joint"

    def task_gradient(
        self, network: Network, params: Params, task: Task
    ) -> MetaGradient:
        return joint_gradient(network.loss, params, task)
