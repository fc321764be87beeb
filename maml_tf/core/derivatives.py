"""Ops whose derivative TensorFlow lacks, found in a traced meta-gradient.

TensorFlow raises a `LookupError` for most ops that it cannot differentiate, but
treats some as constants, and those make a meta-gradient wrong without an error.
The tables below name them; a test compares them with TensorFlow's registry.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from maml_tf.core.maml import MetaGradientFn, Task
from maml_tf.errors import ConfigError
from maml_tf.layers.normalization import all_layers

# Gradients that have no gradient.
_DIFFERENTIABLE_ONCE = frozenset(
    {
        "FakeQuantWithMinMaxArgsGradient",
        "FakeQuantWithMinMaxVarsGradient",
        "FakeQuantWithMinMaxVarsPerChannelGradient",
        "ResizeBilinearGrad",
        "SparseAddGrad",
    }
)
# Ops without even a gradient, though their outputs change with their inputs.
_NOT_DIFFERENTIABLE = frozenset(
    {
        "Assign",
        "AssignAdd",
        "AssignSub",
        "CTCBeamSearchDecoder",
        "CTCGreedyDecoder",
        "DrawBoundingBoxes",
        "ExtractGlimpse",
        "GenerateBoundingBoxProposals",
        "HSVToRGB",
        "LinSpace",
        "OneHot",
        "ParameterizedTruncatedNormal",
        "PyFunc",
        "PyFuncStateless",
        "RaggedRange",
        "RandomCrop",
        "RandomShuffle",
        "Range",
        "ReduceDataset",
        "ScatterAdd",
        "ScatterDiv",
        "ScatterMul",
        "ScatterNdAdd",
        "ScatterNdSub",
        "ScatterNdUpdate",
        "ScatterSub",
        "SdcaOptimizer",
        "SdcaOptimizerV2",
        "SparseConcat",
        "StackPush",
        "TPUReplicatedInput",
    }
)
# Ops that are differentiated by some of their inputs only: the others. For
# images, TensorFlow turns the gradient back by the inverse transform, which
# interpolates differently.
_INPUTS_LEFT_OUT = {
    "Betainc": (0, 1),
    "FusedBatchNorm": (3, 4),
    "FusedBatchNormV2": (3, 4),
    "FusedBatchNormV3": (3, 4),
    "ImageProjectiveTransformV2": (0, 1),
    "ImageProjectiveTransformV3": (0, 1),
    "Polygamma": (0,),
    "QuantizeAndDequantizeV2": (1, 2),
    "QuantizeAndDequantizeV3": (1, 2),
    "ScaleAndTranslate": (2, 3),
    "Zeta": (0,),
}
# Its gradient for the logits, output 1, counts as constant in the labels.
_CROSS_ENTROPY = "SoftmaxCrossEntropyWithLogits"
# Ops that draw from a generator of TensorFlow's.
_STATEFUL_DRAWS = frozenset(
    {
        "FractionalAvgPool",
        "FractionalMaxPool",
        "Multinomial",
        "ParameterizedTruncatedNormal",
        "RandomCrop",
        "RandomGamma",
        "RandomPoisson",
        "RandomPoissonV2",
        "RandomShuffle",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "RngReadAndSkip",
        "RngSkip",
        "StatefulRandomBinomial",
        "StatefulStandardNormal",
        "StatefulStandardNormalV2",
        "StatefulTruncatedNormal",
        "StatefulUniform",
        "StatefulUniformFullInt",
        "StatefulUniformInt",
        "TruncatedNormal",
    }
)
# How data become labels, without any weight.
_DATA_OPS = frozenset(
    {
        "BroadcastTo",
        "Cast",
        "ConcatV2",
        "Const",
        "ExpandDims",
        "GatherV2",
        "Identity",
        "OneHot",
        "Pack",
        "Placeholder",
        "Range",
        "Reshape",
        "Shape",
        "Squeeze",
        "StridedSlice",
        "Sub",
    }
)
# In tf.nn.moments, around the mean inside the variance. TensorFlow numbers
# further calls.
_MOMENTS = re.compile(r"moments(_\d+)?/StopGradient")
# The gradient of a function of TensorFlow's own that it cannot run.
_CANNOT_RUN = "SymbolicGradient"


class Gap(NamedTuple):
    """An op at which a gradient ends.

    Attributes:
        op: its type.
        place: the path of the layer it belongs to, or its name.
        differentiable: whether it has a first derivative.
    """

    op: str
    place: str
    differentiable: bool

    def __str__(self) -> str:
        order = "second derivative" if self.differentiable else "derivative"
        return f"TensorFlow has no {order} of {self.op}, in {self.place}"


class Edge(NamedTuple):
    """An op, or one in a function that it calls, that may end a gradient.

    Attributes:
        node: the op that may.
        name: its name, behind that of the op that calls its function.
        inputs, outputs: the tensors between which it does.
    """

    node: tf.compat.v1.NodeDef
    name: str
    inputs: list[tf.Tensor]
    outputs: list[tf.Tensor]


def nodes_of(graph: tf.Graph) -> Iterator[tf.compat.v1.NodeDef]:
    """The operations of a graph and of the functions in it."""
    for nodes in _bodies_of(graph):
        yield from nodes


def check_derivatives(
    task_gradient: MetaGradientFn,
    params: list[tf.TensorSpec],
    task: Task,
    model: keras.Model,
    traced: tf.Graph,
) -> None:
    """Checks that no op cuts the path from the parameters to the query loss.

    Args:
        task_gradient, params, task, model: as for `gaps_in`.
        traced: a graph of the gradient of a batch of tasks. Unless ops of the
            tables are in it, nothing more is traced.

    Raises:
        ConfigError: if an op does; names it and its layer.
    """
    if not _suspicious(traced):
        return
    gaps = gaps_in(task_gradient, params, task, model)
    if gaps:
        raise ConfigError(refusal(gaps))


def check_draws(model: keras.Model, traced: tf.Graph) -> None:
    """Checks that no op draws random numbers by a state of TensorFlow's own.

    They would differ in each run, and be drawn in evaluation, too.

    Args:
        model: names the layers.
        traced: a graph of the gradient of a batch of tasks.

    Raises:
        ConfigError: if an op does; names it and its layer.
    """
    for node in nodes_of(traced):
        if node.op in _STATEFUL_DRAWS:
            raise ConfigError(
                f"{node.op}, in {_place(node.name, model)}, draws random "
                "numbers that cannot be drawn again. Let the layer make a "
                "generator, self.seed_generator = "
                "keras.random.SeedGenerator(), and draw by keras.random with "
                "seed=self.seed_generator."
            )


def gaps_in(
    task_gradient: MetaGradientFn,
    params: list[tf.TensorSpec],
    task: Task,
    model: keras.Model,
) -> list[Gap]:
    """The ops that cut the path from the parameters to the query loss.

    The gradient of a loss is right if each op between is differentiated; those
    of the inner updates' gradients are between, too, unless these are taken as
    constants.

    Args:
        task_gradient: gradient and losses of one task.
        params: the specs of what it differentiates by.
        task: the specs of a task.
        model: names the layers.
    """
    function = tf.function(task_gradient, autograph=False)
    graph = function.get_concrete_function(params, task).graph
    losses = graph.structured_outputs.losses
    first, last = losses.get("pre_update"), losses.get("post_update")
    sources = graph.inputs[: len(params)]
    gaps: list[Gap] = []
    with graph.as_default():
        for edge in _suspicious_edges(graph):
            gap = Gap(
                _described(edge.node),
                _place(edge.name, model),
                edge.node.op not in _NOT_DIFFERENTIABLE | set(_INPUTS_LEFT_OUT),
            )
            if gap in gaps or not _depends(edge.inputs, sources):
                continue
            # Once, the gradient of the moments is right: that of a query loss.
            right_once = edge.node.op == "StopGradient"
            if right_once and not _depends([first], edge.outputs):
                continue
            if _depends([first if last is None else last], edge.outputs):
                gaps.append(gap)
    return gaps


def refusal(gaps: list[Gap]) -> str:
    """Says which ops are in the way, and what to do."""
    text = "; ".join(str(gap) for gap in gaps)
    if all(gap.differentiable for gap in gaps):
        return (
            f"{text}; the meta-gradient would be wrong. Replace it, or use "
            "first_order=True, which needs none."
        )
    return (
        f"{text}; the gradient would be wrong. Replace it, or, if it is to "
        "count as a constant, give it tf.stop_gradient of its inputs."
    )


def missing_derivative(
    error: Exception,
    task_gradient: MetaGradientFn,
    params: list[tf.TensorSpec],
    task: Task,
    model: keras.Model,
) -> Gap | None:
    """The op at which TensorFlow stopped differentiating with an error.

    Args:
        error: what tracing raised.
        task_gradient, params, task, model: as for `gaps_in`.

    Returns:
        None if the error has another cause.
    """
    if not _from_differentiation(error):
        return None
    _, registry, op = str(error).rpartition("no entry for: ")
    op = op if registry else "PreventGradient"
    for kind, name in _ops_until_error(task_gradient, params, task):
        if kind == op:
            return Gap(op, _place(name, model), True)
    return Gap("an op", f"{model.name} or the loss", True)


def _bodies_of(graph: tf.Graph) -> Iterator[Iterable[tf.compat.v1.NodeDef]]:
    definition = graph.as_graph_def()
    yield definition.node
    for function in definition.library.function:
        yield function.node_def


def _suspicious(graph: tf.Graph) -> bool:
    """Whether a graph holds an op that may cut a gradient."""
    tables = _DIFFERENTIABLE_ONCE | _NOT_DIFFERENTIABLE | {_CANNOT_RUN}
    for nodes in _bodies_of(graph):
        for node in nodes:
            if node.op == _CROSS_ENTROPY:
                if _computes_labels(node, nodes):
                    return True
            elif (
                node.op in tables
                or node.op in _INPUTS_LEFT_OUT
                or _MOMENTS.search(node.name)
            ):
                return True
    return False


def _computes_labels(
    node: tf.compat.v1.NodeDef, nodes: Iterable[tf.compat.v1.NodeDef]
) -> bool:
    """Whether a cross-entropy's labels may depend on weights."""
    by_name = {x.name: x for x in nodes}
    waiting, seen = [node.input[1]], set()
    while waiting:
        name = waiting.pop().lstrip("^").split(":")[0]
        if name in seen or name not in by_name:  # an argument of the function
            continue
        seen.add(name)
        if by_name[name].op not in _DATA_OPS:
            return True
        waiting += by_name[name].input
    return False


def _suspicious_edges(graph: tf.Graph) -> list[Edge]:
    library = {
        function.signature.name: function
        for function in graph.as_graph_def().library.function
    }
    edges = []
    for op in graph.get_operations():
        node, inputs, outputs = op.node_def, list(op.inputs), list(op.outputs)
        if op.type == _CROSS_ENTROPY:
            edges.append(Edge(node, op.name, inputs[1:], outputs[1:]))
        elif op.type in _INPUTS_LEFT_OUT:
            left_out = [inputs[i] for i in _INPUTS_LEFT_OUT[op.type]]
            edges.append(Edge(node, op.name, left_out, outputs))
        elif _cuts(node):
            edges.append(Edge(node, op.name, inputs, outputs))
        edges += [
            Edge(inner, f"{op.name}/{inner.name}", inputs, outputs)
            for inner in _nodes_called_by(node, library, set())
            if _cuts(inner)
        ]
    return edges


def _cuts(node: tf.compat.v1.NodeDef) -> bool:
    return (
        node.op in _DIFFERENTIABLE_ONCE
        or node.op in _NOT_DIFFERENTIABLE
        or node.op == _CANNOT_RUN
        or (node.op == "StopGradient" and bool(_MOMENTS.search(node.name)))
    )


def _nodes_called_by(
    node: tf.compat.v1.NodeDef, library: dict[str, Any], seen: set[str]
) -> Iterator[tf.compat.v1.NodeDef]:
    """The nodes of the functions that a node calls, such as a loop's body."""
    for value in node.attr.values():
        for function in (value.func, *value.list.func):
            if function.name in library and function.name not in seen:
                seen.add(function.name)
                for inner in library[function.name].node_def:
                    yield inner
                    yield from _nodes_called_by(inner, library, seen)


def _depends(values: list[tf.Tensor | None], on: list[tf.Tensor]) -> bool:
    """Whether TensorFlow has a derivative of a value by one of the others."""
    values = [x for x in values if x is not None and _is_number(x)]
    on = [x for x in on if _is_number(x)]
    if not values or not on:
        return False
    try:
        return any(g is not None for g in tf.gradients(values, on))
    except LookupError:  # a further op without a derivative, between the two
        return True


def _is_number(x: tf.Tensor) -> bool:
    return x.dtype.is_floating or x.dtype.is_complex


def _described(node: tf.compat.v1.NodeDef) -> str:
    """What to call an op: TensorFlow's function if that is what matters."""
    if node.op == "StopGradient":
        return "tf.nn.moments"
    if node.op == _CROSS_ENTROPY:
        return "softmax_cross_entropy_with_logits in its labels"
    return node.op


def _place(name: str, model: keras.Model) -> str:
    """The layer that an op belongs to; without one, the op's name."""
    layers = all_layers(model)[1:]
    for scope in reversed(name.split("/")):
        for layer in layers:
            if scope == layer.name:
                return layer.path
        for layer in layers:  # TensorFlow numbers the calls of a layer
            if scope.rstrip("0123456789") == f"{layer.name}_":
                return layer.path
    return name


def _from_differentiation(error: Exception) -> bool:
    """Whether an error was raised while a tape computed a gradient."""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_name == "gradient" and "backprop" in code.co_filename:
            return True
        trace = trace.tb_next
    return False


def _ops_until_error(
    task_gradient: MetaGradientFn, params: list[tf.TensorSpec], task: Task
) -> list[tuple[str, str]]:
    """Types and names of the ops that are traced before the error."""
    found: list[tuple[str, str]] = []

    def traced(params: list[tf.Tensor], one: Task):
        try:
            return task_gradient(params, one)
        finally:
            graph = tf.compat.v1.get_default_graph()
            found.extend((op.type, op.name) for op in graph.get_operations())

    function = tf.function(traced, autograph=False)
    with contextlib.suppress(Exception):  # the one that is being explained
        function.get_concrete_function(params, task)
    return found
