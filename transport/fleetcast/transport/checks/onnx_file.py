"""ONNX models: parsed and checked by onnx where it is installed, by their outermost structure elsewhere.

Data outside the model has to lie beside it: a model published without its `.data` file loads nowhere.
"""

import math
import os
from collections.abc import Iterable, Iterator
from importlib import util
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from fleetcast.transport.checks.child import Task
from fleetcast.transport.checks.report import RefusedFile

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

IR_VERSION, GRAPH, OPSETS = 1, 7, 8
"""Field numbers of ModelProto (onnx/onnx.proto)."""
_PACKED_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
"""Types of less than a byte are packed (onnx/onnx.proto)."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def test(task: Task) -> str:
    """Test an ONNX model; the facts are `ir_version`, `opset`, `nodes`, `inputs`, `outputs` and `external`.

    Raises:
        RefusedFile: see the package.
    """
    fields = set(_top_level(task.file, task.size))
    if not {IR_VERSION, GRAPH, OPSETS} <= fields:
        raise RefusedFile("it is no ONNX model: version, graph or operator sets are missing")
    if util.find_spec("onnx") is None:
        return "without onnx"
    _check(task)
    return ""


def _top_level(file: BinaryIO, size: int) -> Iterator[int]:
    """The field numbers of a protobuf message, its lengths held against the file (protobuf.dev, "Encoding")."""
    file.seek(0)
    while file.tell() < size:
        tag = _varint(file)
        wire = tag & 7
        step = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
        if wire == _VARINT:
            _varint(file)
        else:
            step = _varint(file) if wire == _BYTES else step
            if step < 0 or file.tell() + step > size:
                raise RefusedFile("it is no ONNX model, or it is cut off")
            file.seek(step, 1)
        yield tag >> 3


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise RefusedFile("it is cut off")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise RefusedFile("it is no ONNX model")


def _check(task: Task) -> None:
    import onnx

    task.file.seek(0)
    model = onnx.load_model_from_string(task.file.read())
    graph = model.graph
    task.facts.update(ir_version=model.ir_version, nodes=len(graph.node), external=_detach_external(model, task))
    task.facts.update(inputs=[i.name for i in graph.input][:64], outputs=[o.name for o in graph.output][:64])
    task.facts["opset"] = max((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), default=0)
    os.chdir(task.folder)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as invalid:
        raise RefusedFile(f"the model is not valid: {str(invalid)[:500]}") from invalid


def _detach_external(model: "ModelProto", task: Task) -> list[str]:
    """Hold what lies beside the model against its tensors, and let the model go on without it.

    The checker of onnx 1.23 distrusts external data with several hard links, as everything in the store has, and stops
    there. All that it asks of such data is asked here, and its length as well; then each tensor becomes an empty one of
    its name and type, and the checker looks at the rest of the model. Nothing is copied and no data is read.

    Returns:
        The files beside the model that it needs.
    """
    needed: dict[str, int] = {}
    for tensor in _tensors_of_model(model):
        if tensor.HasField("data_location") and tensor.data_location == tensor.EXTERNAL:
            location, end = _placed(tensor)
            needed[location] = max(end, needed.get(location, 0))
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
            tensor.ClearField("dims")
            tensor.dims.append(0)
    for location, end in needed.items():
        _check_location(Path(task.folder), location, end)
    return sorted(needed)


def _placed(tensor: "TensorProto") -> tuple[str, int]:
    """The file that a tensor lies in, and where it ends there."""
    entry = {e.key: e.value for e in tensor.external_data}
    try:
        offset, length = int(entry.get("offset", 0)), int(entry.get("length", -1))
    except ValueError as wrong:
        raise RefusedFile(f"tensor {tensor.name!r} has a place that is no number") from wrong
    size = _size(tensor)
    if offset < 0 or length < -1 or (size is not None and length not in {-1, size}):
        raise RefusedFile(f"tensor {tensor.name!r} of {size} bytes claims {length} bytes from {offset}")
    return entry.get("location", ""), offset + (length if length >= 0 else size or 0)


def _size(tensor: "TensorProto") -> int | None:
    """Bytes of a tensor by its type and shape; None for a type that this onnx does not know."""
    from onnx import TensorProto, helper

    if any(n < 0 for n in tensor.dims):
        raise RefusedFile(f"tensor {tensor.name!r} has a negative dimension")
    try:
        kind = TensorProto.DataType.Name(tensor.data_type)
        item_bits = _PACKED_BITS.get(kind) or helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * 8
    except (ValueError, KeyError, TypeError):
        return None
    return -(-math.prod(map(int, tensor.dims)) * item_bits // 8)


def _check_location(folder: Path, location: str, end: int) -> None:
    parts = PurePosixPath(location)
    if not location or parts.is_absolute() or ".." in parts.parts or "\\" in location or "\0" in location:
        raise RefusedFile(f"it wants data from {location!r}, outside its folder")
    here = folder
    for part in parts.parts:
        here = here / part
        if here.is_symlink():
            raise RefusedFile(f"its data {location!r} is reached through a symbolic link")
    if not here.is_file() or here.stat().st_size < end:
        raise RefusedFile(
            f"its data {location!r} is not beside it, or too short; publish the folder that holds both, "
            "or save the model as one file"
        )


def _tensors_of_model(model: "ModelProto") -> Iterator["TensorProto"]:
    yield from _tensors(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)
    for training in model.training_info:
        yield from _tensors(training.initialization)
        yield from _tensors(training.algorithm)


def _tensors(graph: "GraphProto") -> Iterator["TensorProto"]:
    """The tensors of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable["NodeProto"]) -> Iterator["TensorProto"]:
    for node in nodes:
        for attribute in node.attribute:
            yield from _tensors_of(attribute)


def _tensors_of(attribute: Any) -> Iterator["TensorProto"]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in (
        *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
        *attribute.sparse_tensors,
    ):
        yield from (sparse.values, sparse.indices)
    for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
        yield from _tensors(graph)
