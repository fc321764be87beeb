"""Exported adaptation for phones: a LiteRT (TensorFlow Lite) model.

Made from the signature `adapt_and_predict` of a SavedModel. The sizes of the
sets are fixed: LiteRT has no operation for the gradient of a broadcast of
unknown shapes. The number of updates stays an input. The file needs only
LiteRT's own operations.
"""

import os
import pathlib
import tempfile

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from maml_tf.errors import ExportError
from maml_tf.files import write_atomically

SIGNATURE = "adapt_and_predict"
UNSUPPORTED = "TF Select ops: "  # where the converter names operations


def convert_adaptation(
    directory: str | os.PathLike,
    file: str | os.PathLike,
    num_support: int,
    num_query: int,
) -> None:
    """Writes `adapt_and_predict` of a SavedModel as a LiteRT model.

    Args:
        directory: written by `export_adaptation` or `export_method`.
        file: the file to write.
        num_support, num_query: numbers of examples.

    Raises:
        ExportError: if there is no such directory, or LiteRT lacks an operation
            of the adaptation, such as the gradient of max-pooling.
    """
    directory = pathlib.Path(directory)
    if not (directory / "saved_model.pb").is_file():
        raise ExportError(
            f"{directory} is not an exported model: it has no saved_model.pb."
        )
    with tempfile.TemporaryDirectory() as scratch:
        edited = _with_simple_gradients(directory, pathlib.Path(scratch))
        loaded = tf.saved_model.load(str(edited))
        content = _convert(loaded, num_support, num_query)
    write_atomically(pathlib.Path(file), content)


def _convert(loaded, num_support: int, num_query: int) -> bytes:
    function = loaded.signatures[SIGNATURE]
    sizes = {"support": num_support, "query": num_query}
    specs = {}
    for name, spec in function.structured_input_signature[1].items():
        size = sizes.get(name.partition("_")[0])
        shape = spec.shape if size is None else [size, *spec.shape[1:]]
        specs[name] = tf.TensorSpec(shape, spec.dtype, name)

    module = tf.Module()
    module.loaded = loaded
    module.serve = tf.function(
        lambda **tensors: _numbers(function(**tensors)), autograph=False
    )
    with tempfile.TemporaryDirectory() as scratch:
        tf.saved_model.save(
            module,
            scratch,
            {SIGNATURE: module.serve.get_concrete_function(**specs)},
            tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(
            scratch, signature_keys=[SIGNATURE]
        )
        try:
            return converter.convert()
        except Exception as e:  # the converter's own type is not public
            if UNSUPPORTED not in str(e):
                raise
            names = str(e).partition(UNSUPPORTED)[2].partition("\n")[0]
            raise ExportError(
                f"The adaptation cannot be converted: LiteRT has no {names}. "
                "Serve the SavedModel, or convert a network without it."
            ) from e


def _numbers(answers: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Leaves out names of classes, which a phone's app has itself."""
    return {k: v for k, v in answers.items() if v.dtype != tf.string}


def _with_simple_gradients(
    directory: pathlib.Path, scratch: pathlib.Path
) -> pathlib.Path:
    """A copy in which the gradient of ReLU is a comparison and a selection.

    LiteRT has no ReluGrad(dy, y); it is dy where y > 0, and 0 elsewhere.
    """
    copy = scratch / "copy"
    copy.mkdir()
    os.symlink((directory / "variables").resolve(), copy / "variables")
    content = (directory / "saved_model.pb").read_bytes()
    model = saved_model_pb2.SavedModel.FromString(content)
    for function in model.meta_graphs[0].graph_def.library.function:
        _replace_relu_gradients(function)
    (copy / "saved_model.pb").write_bytes(model.SerializeToString())
    return copy


def _replace_relu_gradients(function) -> None:
    """Edits a `FunctionDef`."""
    renamed = {}
    for node in list(function.node_def):
        if node.op != "ReluGrad":
            continue
        dtype = node.attr["T"].type
        gradients, outputs, *controls = node.input
        zero = function.node_def.add(name=f"{node.name}/zero", op="Const")
        zero.attr["dtype"].type = dtype
        zero.attr["value"].tensor.CopyFrom(
            tf.make_tensor_proto(0, tf.as_dtype(dtype))
        )
        positive = function.node_def.add(
            name=f"{node.name}/positive",
            op="Greater",
            input=[outputs, f"{zero.name}:output:0"],
        )
        positive.attr["T"].type = dtype
        node.op = "SelectV2"
        node.input[:] = [
            f"{positive.name}:z:0",
            gradients,
            f"{zero.name}:output:0",
            *controls,
        ]
        renamed[f"{node.name}:backprops:0"] = f"{node.name}:output:0"
    for node in function.node_def:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for name, source in function.ret.items():
        function.ret[name] = renamed.get(source, source)
