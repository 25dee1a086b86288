"""ONNX models: parsed and checked by onnx where it is installed, by their outermost structure elsewhere.

Data outside the model has to lie beside it: a model published without its `.data` file loads nowhere.
"""

import os
from collections.abc import Iterator
from importlib import util
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from fleetcast.transport.checks.child import Task
from fleetcast.transport.checks.report import RefusedFile

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TensorProto

IR_VERSION, GRAPH, OPSETS = 1, 7, 8
"""Field numbers of ModelProto (onnx/onnx.proto)."""
_HARD_LINKS = "multiple hard links"
"""onnx distrusts external data with several names; `_check_external` has looked at it already."""
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def test(task: Task) -> str:
    """Test an ONNX model; the facts are `ir_version`, `nodes`, `inputs`, `outputs` and `external`.

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
    task.facts.update(ir_version=model.ir_version, nodes=len(graph.node), external=_check_external(model, task))
    task.facts.update(inputs=[i.name for i in graph.input][:64], outputs=[o.name for o in graph.output][:64])
    os.chdir(task.folder)  # the checker looks for external data from here
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as invalid:
        if not (task.facts["external"] and _HARD_LINKS in str(invalid)):
            raise RefusedFile(f"the model is not valid: {str(invalid)[:500]}") from invalid
        task.facts["checker"] = "stopped at external data that has several names, as everything in the store has"


def _check_external(model: "ModelProto", task: Task) -> list[str]:
    """The files beside the model that it needs; each is there, plain, and long enough."""
    needed: dict[str, int] = {}
    for tensor in _tensors(model.graph):
        if tensor.HasField("data_location") and tensor.data_location == tensor.EXTERNAL:
            entry = {e.key: e.value for e in tensor.external_data}
            end = int(entry.get("offset", 0)) + int(entry.get("length", 0))
            needed[entry.get("location", "")] = max(end, needed.get(entry.get("location", ""), 0))
    for location, end in needed.items():
        _check_location(Path(task.folder), location, end)
    return sorted(needed)


def _check_location(folder: Path, location: str, end: int) -> None:
    parts = PurePosixPath(location)
    if not location or parts.is_absolute() or ".." in parts.parts:
        raise RefusedFile(f"it wants data from {location!r}, outside its folder")
    beside = folder / location
    if beside.is_symlink() or not beside.is_file() or beside.stat().st_size < end:
        raise RefusedFile(f"its data {location!r} is not beside it, or too short; save the model as one file")


def _tensors(graph: "GraphProto") -> Iterator["TensorProto"]:
    """The tensors of a graph and of the graphs inside its nodes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from _tensors_of(attribute)


def _tensors_of(attribute: Any) -> Iterator["TensorProto"]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
        yield from _tensors(graph)
