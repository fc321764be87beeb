"""MAML, in second and first order."""

import dataclasses
from typing import ClassVar

from maml_tf.core.maml import MetaGradient, Params, Task, task_meta_gradient
from maml_tf.core.network import Network
from maml_tf.methods.gradient import GradientMethod


@dataclasses.dataclass(frozen=True)
class MAML(GradientMethod):
    """Algorithm 2 of the paper (Finn, Abbeel and Levine 2017).

    Attributes:
        first_order: leave out second derivatives (section 5.2): faster, less
            exact.
    """

    name: ClassVar[str] = "maml"

    first_order: bool = False

    def task_gradient(
        self, network: Network, params: Params, task: Task
    ) -> MetaGradient:
        return task_meta_gradient(
            network.loss,
            params,
            task,
            self.alpha,
            self.num_steps,
            adapts=self.moves,
            first_order=self.first_order,
        )
