"""What a traced graph consists of."""

from collections.abc import Iterator

import tensorflow as tf


def nodes_of(graph: tf.Graph) -> Iterator[tf.compat.v1.NodeDef]:
    """The operations of a graph and of the functions in it."""
    definition = graph.as_graph_def()
    yield from definition.node
    for function in definition.library.function:
        yield from function.node_def
