"""A model's outputs with given weights, normalized by given statistics."""

import contextlib
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from maml_tf.core.batch import Weighted
from maml_tf.core.maml import Params
from maml_tf.errors import ConfigError
from maml_tf.layers.normalization import (
    statistics_of_batch,
    statistics_of_counted,
    statistics_of_first,
)
from maml_tf.layers.randomness import (
    check_own_generators,
    current_draws,
    generators_of,
)

# Whose mean and variance batch normalization uses on a query set: the query
# set's own, as in the paper; the support set's; those of the support set with
# one query appended, for each query; those of both sets together, for the
# support set, too; or the moving ones (population.py), for it, too.
STATISTICS = ("transductive", "support", "appended", "joint", "population")

# The reference that stands for the moving statistics.
POPULATION = "population"


class Jointly(NamedTuple):
    """A reference whose statistics are taken together with the inputs'."""

    inputs: Any


class Appended(NamedTuple):
    """A reference to which each of the inputs is appended on its own."""

    inputs: Any


class References(NamedTuple):
    """References of `predict`, for the sets of a task."""

    support: Any
    query: Any


def references(statistics: str, support: Any, query: Any) -> References:
    """What normalizes the sets of a task.

    Args:
        statistics: one of `STATISTICS`.
        support, query: inputs of the sets.
    """
    return {
        "transductive": References(None, None),
        "support": References(None, support),
        "appended": References(None, Appended(support)),
        "joint": References(Jointly(query), Jointly(support)),
        "population": References(POPULATION, POPULATION),
    }[statistics]


def predict(
    model: keras.Model,
    theta: Params,
    inputs: Any,
    training: bool = True,
    reference: Any = None,
) -> Any:
    """The outputs of `model` with `theta` in place of its trainable variables.

    Like `model.stateless_call`, but `training` also reaches the layers of a
    subclassed model whose `call` does not take it. Nothing is assigned: updates
    of moving statistics are dropped. Layers that draw random numbers do nothing
    except while a `MetaStep` trains (randomness.py).

    Args:
        model: a built Keras model.
        theta: one tensor for each of `model.trainable_variables`.
        inputs: the model's inputs, or `Weighted`; a reference must be, too.
        training: True normalizes a batch by its own statistics, as the
            paper's networks always do.
        reference: inputs whose statistics batch normalization uses instead;
            each output then depends on its own input alone. Needs the exact
            layers of normalization.py. Or `Jointly`, `Appended` or
            `POPULATION`.

    Raises:
        ValueError: if theta does not fit the model.
        ConfigError: if a layer draws from Keras' global seed generator.
    """
    return outputs_and_losses(model, theta, inputs, training, reference)[0]


def outputs_and_losses(
    model: keras.Model,
    theta: Params,
    inputs: Any,
    training: bool = True,
    reference: Any = None,
) -> tuple[Any, list[tf.Tensor]]:
    """The outputs, and the losses that layers and regularizers add.

    Args: as for `predict`.
    """
    weights = list(zip(model.trainable_variables, theta, strict=True))
    state = weights
    statistics: contextlib.AbstractContextManager = contextlib.nullcontext()
    if generators := generators_of(model):
        if draws := current_draws():
            state = [*weights, *draws.states(generators)]
        elif training and not isinstance(reference, str):
            # Only normalization is to work as in training.
            training, statistics = False, statistics_of_batch()
    with (
        keras.StatelessScope(state, collect_losses=True) as scope,
        statistics,
    ):
        if reference is None:
            outputs = _called(model, inputs, training)
        elif isinstance(reference, str):
            outputs = _called(model, inputs, False)
        elif isinstance(reference, Jointly):
            outputs = _first_of(model, inputs, training, reference.inputs)
        elif isinstance(reference, Appended):
            outputs = _one_by_one(model, inputs, training, reference.inputs)
        else:
            outputs = _with_reference(model, inputs, training, reference)
    check_own_generators(model, scope)
    if scope.losses and isinstance(inputs, Weighted):
        raise ConfigError(
            f"Layers of {model.name} add losses, such as activity "
            "regularizers, which cannot leave out examples of weight 0. Give "
            "all tasks the same number of examples, and no weights."
        )
    regularization = [
        variable.regularizer(value)
        for variable, value in weights
        if variable.regularizer is not None
    ]
    return outputs, [*map(tf.reduce_sum, scope.losses), *regularization]


def _called(model: keras.Model, inputs: Any, training: bool) -> Any:
    if not isinstance(inputs, Weighted):
        return model(inputs, training=training)
    with statistics_of_counted(tf.convert_to_tensor(inputs.weights) > 0):
        return model(inputs.inputs, training=training)


def _with_reference(
    model: keras.Model, inputs: Any, training: bool, reference: Any
) -> Any:
    num_reference = tf.shape(tf.nest.flatten(reference)[0])[0]
    both = tf.nest.map_structure(
        lambda *x: tf.concat(x, axis=0), reference, inputs
    )
    with statistics_of_first(num_reference):
        outputs = _called(model, both, training)

    def of_inputs(y: tf.Tensor) -> tf.Tensor:
        mask = mask_of(y)
        if mask is not None:
            mask = mask[num_reference:]
        return masked(y[num_reference:], mask)

    return tf.nest.map_structure(of_inputs, outputs)


def _first_of(
    model: keras.Model, inputs: Any, training: bool, others: Any
) -> Any:
    """Outputs for inputs that are normalized together with others."""
    num_inputs = tf.shape(tf.nest.flatten(inputs)[0])[0]
    both = tf.nest.map_structure(
        lambda *x: tf.concat(x, axis=0), inputs, others
    )
    outputs = _called(model, both, training)
    return tf.nest.map_structure(lambda y: y[:num_inputs], outputs)


def _one_by_one(
    model: keras.Model, inputs: Any, training: bool, others: Any
) -> Any:
    """Outputs for inputs that are each normalized together with others."""

    def output(x: Any) -> Any:
        alone = tf.nest.map_structure(lambda a: a[tf.newaxis], x)
        found = _first_of(model, alone, training, others)
        return tf.nest.map_structure(lambda y: y[0], found)

    first = output(tf.nest.map_structure(lambda a: a[0], inputs))
    specs = tf.nest.map_structure(
        lambda y: tf.TensorSpec(y.shape, y.dtype), first
    )
    inputs = tf.nest.map_structure(tf.convert_to_tensor, inputs)
    return tf.map_fn(output, inputs, fn_output_signature=specs)


def mask_of(outputs: tf.Tensor) -> tf.Tensor | None:
    """Which outputs count in Keras' losses, as said by a masking layer."""
    return getattr(outputs, "_keras_mask", None)


def masked(outputs: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """The outputs with that mask, if there is one."""
    if mask is not None:
        outputs._keras_mask = mask
    return outputs
