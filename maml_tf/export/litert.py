"""Exported adaptation for phones: a LiteRT (TensorFlow Lite) model.

Made from a signature of a SavedModel. The sizes of the sets are fixed: LiteRT
has no operation for the gradient of a broadcast of unknown shapes. The number
of updates stays an input. The file needs only LiteRT's own operations.
"""

import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from maml_tf.errors import ExportError, first_lines
from maml_tf.export.litert_gradients import use_available_operations
from maml_tf.files import write_atomically

SIGNATURE = "adapt_and_predict"
SIGNATURES = (SIGNATURE, "adapt", "predict_adapted", "predict")

# Where the converter names operations that LiteRT does not have.
_NAMED = re.compile(r"TF Select ops: (.*)|Custom ops: (.*)|'tf\.(\w+)' op")
# What to use in place of layers, by the beginnings of operations' names.
_REMEDIES = {
    "Conv": "maml_tf.Conv2D without dilation in place of other convolutions",
    "Depthwise": "maml_tf.Conv2D in place of depthwise convolutions",
    "MaxPool": "strides in place of pooling",
    "AvgPool": "strides in place of pooling",
    "Erf": "another activation, such as relu, in place of gelu",
    "TensorList": "unroll=True in recurrent layers",
}


def convert_adaptation(
    directory: str | os.PathLike,
    file: str | os.PathLike,
    num_support: int,
    num_query: int,
    signature: str = SIGNATURE,
) -> None:
    """Writes a signature of a SavedModel as a LiteRT model.

    Args:
        directory: written by `export_adaptation` or `export_method`.
        file: the file to write.
        num_support, num_query: numbers of examples.
        signature: one of `SIGNATURES`. `predict_adapted` takes weights that
            were adapted elsewhere, so it needs no gradients.

    Raises:
        ExportError: if there is no such directory or signature, or LiteRT
            lacks an operation; names it and what to use instead.
    """
    directory = pathlib.Path(directory)
    if not (directory / "saved_model.pb").is_file():
        raise ExportError(
            f"{directory} is not an exported model: it has no saved_model.pb."
        )
    if signature not in SIGNATURES:
        raise ExportError(
            f"signature must be one of {', '.join(SIGNATURES)}. Received: "
            f"signature={signature!r}",
            "signature",
        )
    with tempfile.TemporaryDirectory() as scratch:
        edited = _with_simple_gradients(directory, pathlib.Path(scratch))
        loaded = tf.saved_model.load(str(edited))
        if signature not in loaded.signatures:
            raise ExportError(
                f"{directory} has no signature {signature}; it has "
                f"{', '.join(loaded.signatures)}.",
                "signature",
            )
        try:
            content = _convert(loaded, signature, num_support, num_query)
        except Exception as e:  # the converter's own type is not public
            raise _refusal(e, edited, signature) from e
    write_atomically(pathlib.Path(file), content)


def _convert(
    loaded: Any, signature: str, num_support: int, num_query: int
) -> bytes:
    function = loaded.signatures[signature]
    sizes = {
        "support_inputs": num_support,
        "support_targets": num_support,
        "query_inputs": num_query,
    }
    specs = {}
    for name, spec in function.structured_input_signature[1].items():
        shape = spec.shape
        for prefix, size in sizes.items():
            if name.startswith(prefix):
                shape = [size, *spec.shape[1:]]
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
            {signature: module.serve.get_concrete_function(**specs)},
            tf.saved_model.SaveOptions(experimental_custom_gradients=False),
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(
            scratch, signature_keys=[signature]
        )
        return converter.convert()


def _numbers(answers: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Leaves out names of classes, which a phone's app has itself."""
    return {k: v for k, v in answers.items() if v.dtype != tf.string}


def _with_simple_gradients(
    directory: pathlib.Path, scratch: pathlib.Path
) -> pathlib.Path:
    """A copy with gradients that LiteRT can compute (litert_gradients.py)."""
    copy = scratch / "copy"
    copy.mkdir()
    os.symlink((directory / "variables").resolve(), copy / "variables")
    model = _read(directory)
    use_available_operations(model)
    (copy / "saved_model.pb").write_bytes(model.SerializeToString())
    return copy


def _read(directory: pathlib.Path) -> saved_model_pb2.SavedModel:
    content = (directory / "saved_model.pb").read_bytes()
    return saved_model_pb2.SavedModel.FromString(content)


def _refusal(
    error: Exception, directory: pathlib.Path, signature: str
) -> ExportError:
    """What a message of the converter means, in one line."""
    missing = list(dict.fromkeys(_operations_in(str(error))))
    if not missing:
        what = f"LiteRT's converter gives up ({first_lines(error)})"
    else:
        places = [
            f"{op}{_place_of(op, str(error), directory)}" for op in missing
        ]
        what = f"LiteRT has no {', '.join(places)}"
    remedies = dict.fromkeys(
        remedy for op in missing if (remedy := _remedy(op)) is not None
    )
    advice = []
    if remedies:
        advice.append(f"use {', '.join(remedies)}")
    if any("Grad" in op or "Backprop" in op for op in missing):
        advice.append("convert the signature predict_adapted")
    advice.append("serve the SavedModel")
    said = ", or ".join(advice)
    return ExportError(
        f"{signature} cannot be converted: {what}. {said[0].upper()}{said[1:]}."
    )


def _operations_in(message: str) -> Iterator[str]:
    for groups in _NAMED.findall(message):
        for names in groups:
            yield from filter(None, re.split(r",\s*", names.strip()))


def _place_of(operation: str, message: str, directory: pathlib.Path) -> str:
    """The layer in which an operation is, as far as its name says."""
    names = re.findall(rf'"{operation}:", "([^"@]+)', message)
    library = _read(directory).meta_graphs[0].graph_def.library
    for function in library.function:
        names += [x.name for x in function.node_def if x.op == operation]
    for name in names:
        layers = [x for x in name.split("/")[:-1] if x not in _NOT_LAYERS]
        if layers:
            return f" (in {'/'.join(layers)})"
    return ""


_NOT_LAYERS = ("while", "map", "gradient_tape", "body", "cond")


def _remedy(operation: str) -> str | None:
    for start, remedy in _REMEDIES.items():
        if operation.startswith(start):
            return remedy
    return None
