"""Exports an adapting policy as a SavedModel.

It needs neither maml_tf nor Keras.

Its signatures, with named tensors (docs/serving.md):

| signature       | from                               | to              |
|-----------------|------------------------------------|-----------------|
| `act`           | observations                       | means, stds     |
| `adapt`         | what the policy saw and did, a     | adapted weights |
|                 | step size                          |                 |
| `adapt_further` | the same for the adapted policy,   | adapted weights |
|                 | its weights                        |                 |
| `act_adapted`   | observations, adapted weights      | means, stds     |
"""

import os
import pathlib
from collections.abc import Callable

import tensorflow as tf

from maml_tf.core.maml import Params, inner_update
from maml_tf.core.network import weight_names
from maml_tf.export.checks import require
from maml_tf.export.saved_model import check_free, write_saved_model
from maml_tf.export.signatures import DEFAULT
from maml_tf.rl import advantages
from maml_tf.rl.losses import Experience, reinforce
from maml_tf.rl.policy import GaussianPolicy, log_std

Tensors = dict[str, tf.Tensor]
Specs = dict[str, tf.TensorSpec]


def export_policy(path: str | os.PathLike, policy: GaussianPolicy) -> None:
    """Writes a policy and its adaptation as a SavedModel.

    Args:
        path: the directory to create; an empty one may exist.
        policy: the policy, at its meta-learned parameters.

    Raises:
        ExportError: if `path` exists and is not an empty directory, or cannot
            be written.
    """
    path = pathlib.Path(path)
    check_free(path)
    module = tf.Module()
    module.theta = [v.value for v in policy.trainable_variables]
    served = _ServedPolicy(policy, module.theta)
    write_saved_model(path, module, served.signatures(), {"kind": "policy"})


class _ServedPolicy:
    """The functions of the signatures, from named tensors to named tensors."""

    def __init__(self, policy: GaussianPolicy, theta: list[tf.Variable]):
        self._policy = policy
        self._theta = theta
        self._names = [*weight_names(policy.mean), "log_std"]

    def signatures(self) -> dict[str, Callable]:
        float32, size = tf.float32, self._policy.mean.input_shape[-1]
        observations = {"observations": tf.TensorSpec([None, size], float32)}
        experience = observations | {
            "actions": tf.TensorSpec([None, *self._theta[-1].shape], float32),
            "rewards": tf.TensorSpec([None], float32),
            "times": tf.TensorSpec([None], tf.int32),
            "step_size": tf.TensorSpec([], float32),
        }
        weights = {
            name: tf.TensorSpec(variable.shape, variable.dtype)
            for name, variable in zip(self._names, self._theta, strict=True)
        }
        return {
            name: self._trace(function, specs)
            for name, function, specs in (
                ("act", self._act, observations),
                ("adapt", self._adapt, experience),
                ("adapt_further", self._adapt, experience | weights),
                ("act_adapted", self._act, observations | weights),
                (DEFAULT, self._act_each, observations),
            )
        }

    def _trace(
        self, function: Callable[[Tensors], Tensors], specs: Specs
    ) -> Callable:
        def signature(**tensors: tf.Tensor) -> Tensors:
            return function(_checked(tensors, specs))

        return tf.function(signature, autograph=False).get_concrete_function(
            **{
                name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
                for name, spec in specs.items()
            }
        )

    def _parameters(self, tensors: Tensors) -> Params:
        """The weights given, else the policy's, stacked as for one task."""
        return [
            tensors.get(name, tf.convert_to_tensor(variable))[tf.newaxis]
            for name, variable in zip(self._names, self._theta, strict=True)
        ]

    def _act(self, tensors: Tensors) -> Tensors:
        theta = self._parameters(tensors)
        observations = tensors["observations"][tf.newaxis]
        return {
            "means": self._policy.means(theta, observations)[0],
            "stds": tf.exp(log_std(theta))[0],
        }

    def _act_each(self, tensors: Tensors) -> Tensors:
        """As a server's rows want it: all outputs have an axis of samples."""
        found = self._act(tensors)
        stds = tf.broadcast_to(found["stds"], tf.shape(found["means"]))
        return {"means": found["means"], "stds": stds}

    def _adapt(self, tensors: Tensors) -> Tensors:
        experience = Experience(
            tensors["observations"],
            tensors["actions"],
            _advantages(
                tensors["observations"], tensors["rewards"], tensors["times"]
            ),
            tf.ones_like(tensors["rewards"]),
        )
        theta, _ = inner_update(
            reinforce(self._policy),
            self._parameters(tensors),
            Experience(*(x[tf.newaxis] for x in experience)),
            tensors["step_size"],
        )
        return {n: t[0] for n, t in zip(self._names, theta, strict=True)}


def _advantages(
    observations: tf.Tensor, rewards: tf.Tensor, times: tf.Tensor
) -> tf.Tensor:
    """The advantages of `advantages.experience` for one task, as a graph.

    Returns:
        float32 [samples].
    """
    rewards = tf.cast(rewards, tf.float64)
    t = tf.cast(times, tf.float64)
    episodes = tf.cumsum(tf.cast(times == 0, tf.int32)) - 1
    # Sums of rewards discounted to the start of the episode.
    discounts = tf.constant(advantages.GAMMA, tf.float64) ** t
    discounted = rewards * discounts
    totals = tf.math.segment_sum(discounted, episodes)
    before = tf.cumsum(discounted, exclusive=True) - tf.gather(
        tf.cumsum(totals, exclusive=True), episodes
    )
    returns = (tf.gather(totals, episodes) - before) / discounts
    o = tf.clip_by_value(tf.cast(observations, tf.float64), -10, 10)
    t = t[:, tf.newaxis] / advantages.TIME_UNIT
    features = tf.concat([o, o**2, t, t**2, t**3, tf.ones_like(t)], axis=1)
    gram = tf.matmul(features, features, transpose_a=True)
    ridge = advantages.RIDGE * tf.eye(tf.shape(gram)[0], dtype=gram.dtype)
    moment = tf.linalg.matvec(features, returns, transpose_a=True)
    weights = tf.linalg.solve(gram + ridge, moment[:, tf.newaxis])
    errors = returns - tf.matmul(features, weights)[:, 0]
    mean, std = tf.reduce_mean(errors), tf.math.reduce_std(errors)
    return tf.cast((errors - mean) / (std + 1e-8), tf.float32)


def _checked(tensors: Tensors, specs: Specs) -> Tensors:
    """The same tensors, with checks at run time that they fit."""
    tensors = {
        name: tf.ensure_shape(tensor, specs[name].shape, name=name)
        for name, tensor in tensors.items()
    }
    size = tf.shape(tensors["observations"])[0]
    checks = [require(size >= 1, "observations must hold at least one", size)]
    for name, tensor in tensors.items():
        if tensor.dtype.is_floating:
            finite = tf.reduce_all(tf.math.is_finite(tensor))
            checks.append(require(finite, f"{name} must be finite", tensor))
        if name in ("actions", "rewards", "times"):
            checks.append(
                require(
                    tf.shape(tensor)[0] == size,
                    f"{name} must hold as many samples as observations",
                    tf.shape(tensor)[0],
                    size,
                )
            )
    if "times" in tensors:
        times = tensors["times"]
        follows = (times[1:] == 0) | (times[1:] == times[:-1] + 1)
        checks.append(
            require(
                tf.reduce_all(follows) & tf.reduce_all(times[:1] == 0),
                "times must count the steps of whole episodes: 0, 1, 2, ..., "
                "and 0 again where one starts",
                times,
            )
        )
    with tf.control_dependencies(checks):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}
