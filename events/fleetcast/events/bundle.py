"""The metadata of a bundle: what a program that loads it has to know, as JSON beside the files (`bundle.json`).

Committed as `docs/schemas/bundle-metadata.v1.json`. An origin validates it before anything is published.
"""

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from fleetcast.events.content import RelativePath, Value
from fleetcast.events.errors import Fault, clip, close_matches
from fleetcast.events.ids import Name, Version
from fleetcast.events.jsondoc import read_object

METADATA_NAMES: Final = ("bundle.json", "metadata.json")
"""Names that the metadata may have, at the top of the bundle; one of them, not both."""
MAX_METADATA_BYTES: Final = 256 * 1024
"""Metadata is read before the bundle is; labels and notes need a few kilobytes."""

DType = Literal[
    "float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
    "uint64", "bool", "string",
]  # fmt: skip
Dimension = Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=1, max_length=64)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Short = Annotated[str, Field(min_length=1, max_length=256)]


class Tensor(Value):
    """One input or output of the model.

    Attributes:
        shape: one entry per axis: a number, or the name of an axis whose length may vary (`"batch"`).
    """

    name: Short
    dtype: DType
    shape: tuple[Dimension, ...] = Field(max_length=16)


class Tokenizer(Value):
    """How text becomes input.

    Attributes:
        kind: the library's word for it: `bpe`, `wordpiece`, `unigram`, or a class name.
        files: its files in the bundle.
    """

    kind: Short
    files: tuple[RelativePath, ...] = Field(min_length=1, max_length=64)


class Parity(Value):
    """How far the exported model is from the one that was trained, over `samples` inputs; differences are absolute."""

    samples: int = Field(ge=1)
    atol: float = Field(gt=0, allow_inf_nan=False)
    rtol: float = Field(ge=0, allow_inf_nan=False)
    max_abs_difference: float = Field(ge=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_reached(self) -> "Parity":
        # `|a - b| <= atol + rtol |b|` needs the values; without them, a difference above atol is in doubt only when
        # rtol allows one at all.
        if self.rtol == 0 and self.max_abs_difference > self.atol:
            raise ValueError(
                f"max_abs_difference {self.max_abs_difference} is above atol {self.atol}: parity is not reached"
            )
        return self


class BundleMetadata(Value):
    """What is in a bundle and how it is used.

    Attributes:
        schema_version: of this document.
        model: the model that it is a version of; has to be that of the promotion.
        version: its version; has to be that of the promotion.
        entry: the file that a program loads first.
        precision: of the weights.
        opset: ONNX operator set of `entry`.
        inputs: in the order of the model.
        outputs: in the order of the model.
        tokenizer: for models that read text.
        labels: names of the classes, by index.
        cutpoints: thresholds of an ordinal model, ascending.
        metrics: what is known of its quality, by name.
        parity: against the model that was trained.
        optimiser_flags: what the export was run with.
        git: commit of the code that made it.
        experiment: id of the experiment.
        run_id: id of the training run.
        created_at: RFC 3339.
        extra: anything else.
    """

    model_config = ConfigDict(title="bundle-metadata.v1")

    schema_version: Literal[1] = 1
    model: Name
    version: Version
    entry: RelativePath | None = None
    precision: Literal["fp64", "fp32", "bf16", "fp16", "int8", "int4", "mixed"] | None = None
    opset: int | None = Field(default=None, ge=1, le=1000)
    inputs: tuple[Tensor, ...] | None = Field(default=None, min_length=1, max_length=256)
    outputs: tuple[Tensor, ...] | None = Field(default=None, min_length=1, max_length=256)
    tokenizer: Tokenizer | None = None
    labels: tuple[Short, ...] | None = Field(default=None, min_length=1, max_length=10_000)
    cutpoints: tuple[Finite, ...] | None = Field(default=None, min_length=1, max_length=1000)
    metrics: dict[str, Finite] | None = None
    parity: Parity | None = None
    optimiser_flags: dict[str, Any] | None = None
    git: str | None = Field(default=None, pattern=r"^[0-9a-f]{7,64}$")
    experiment: Short | None = None
    run_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    created_at: str | None = Field(
        default=None, pattern=r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)$"
    )
    extra: dict[str, Any] | None = None

    @field_validator("cutpoints")
    @classmethod
    def _ascend(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and any(b <= a for a, b in pairwise(value)):
            raise ValueError("cutpoints ascend, each above the one before it")
        return value

    @field_validator("labels", "inputs", "outputs")
    @classmethod
    def _names_differ(cls, value: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        names = [getattr(each, "name", each) for each in value or ()]
        twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
        if twice is not None:
            raise ValueError(f"{clip(twice, 80)!r} is there twice")
        return value


EXAMPLE: Final[dict[str, Any]] = {
    "schema_version": 1,
    "model": "fraud_detector",
    "version": "12",
    "entry": "model.onnx",
    "precision": "fp32",
    "opset": 18,
    "inputs": [{"name": "input_ids", "dtype": "int64", "shape": ["batch", "tokens"]}],
    "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 3]}],
    "tokenizer": {"kind": "bpe", "files": ["tokenizer.json", "vocab/merges.txt"]},
    "labels": ["low", "medium", "high"],
    "cutpoints": [-0.7, 1.2],
    "metrics": {"mae": 0.113},
    "parity": {"samples": 500, "atol": 1e-05, "rtol": 1e-05, "max_abs_difference": 4.1e-06},
    "optimiser_flags": {"level": "O2"},
    "git": "1f0c2ad",
    "experiment": "fraud-2026-11",
    "created_at": "2026-11-21T09:30:00Z",
}


class MetadataRefused(Exception):
    """The metadata of a bundle is wrong.

    Attributes:
        field: the field at fault, dotted; None: the document as a whole.
        next_step: what to do now.
    """

    def __init__(self, file: str, reason: str, *, field: str | None, next_step: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file
        self.field = field
        self.next_step = next_step


def read_metadata(file: str, data: bytes) -> BundleMetadata:
    """The metadata in a file of a bundle.

    Raises:
        MetadataRefused: it is not as the schema says; names the field.
    """
    if len(data) > MAX_METADATA_BYTES:
        raise MetadataRefused(
            file,
            f"it has more than {MAX_METADATA_BYTES} bytes",
            field=None,
            next_step="keep what programs need to load the bundle; put the rest into a file of its own",
        )
    try:
        # The document first: it refuses what readers of other languages would see differently.
        read_object(data)
        return BundleMetadata.model_validate_json(data)
    except Fault as fault:
        raise MetadataRefused(file, fault.reason, field=fault.field, next_step=f"write {file} as JSON") from fault
    except ValidationError as invalid:
        raise _refusal(file, invalid) from invalid


def check_metadata(file: str, metadata: BundleMetadata, model: str, version: str, paths: Collection[str]) -> None:
    """Hold metadata against the promotion and the files of the bundle.

    Raises:
        MetadataRefused: they contradict each other; names the field.
    """
    for field, said, asked in (("model", metadata.model, model), ("version", metadata.version, version)):
        if said != asked:
            raise MetadataRefused(
                file,
                f"{field} is {said}, and it is promoted as {asked}",
                field=field,
                next_step=f"write {asked!r} there, or promote it as {metadata.model} {metadata.version}",
            )
    named = [("entry", metadata.entry)] if metadata.entry else []
    if metadata.tokenizer:
        named += [(f"tokenizer.files.{n}", path) for n, path in enumerate(metadata.tokenizer.files)]
    for field, path in named:
        if path not in paths:
            raise MetadataRefused(
                file,
                f"{field} names {path}, which is not in the bundle",
                field=field,
                next_step="add the file to the folder, or correct the name; paths are relative to the folder",
            )


def check_model_facts(file: str, metadata: BundleMetadata, facts: Mapping[str, Mapping[str, object]]) -> None:
    """Hold metadata against what the format tests saw of the model that `entry` names.

    Raises:
        MetadataRefused: they contradict each other; names the field.
    """
    seen = facts.get(metadata.entry or "", {})
    names: tuple[tuple[str, tuple[Tensor, ...] | None], ...] = (
        ("inputs", metadata.inputs),
        ("outputs", metadata.outputs),
    )
    wanted: dict[str, object] = {"opset": metadata.opset}
    wanted |= {field: [t.name for t in tensors][:64] if tensors else None for field, tensors in names}
    for field, said in wanted.items():
        if said is not None and field in seen and seen[field] != said:
            raise MetadataRefused(
                file,
                f"{field} is {said}, and {metadata.entry} has {clip(str(seen[field]), 200)}",
                field=field,
                next_step=f"write what {metadata.entry} has, or export the model again",
            )


_BRANCHES: Final = frozenset({"constrained-int", "constrained-str"})
"""Names that pydantic gives the two ways in which a dimension may be written."""


def _refusal(file: str, invalid: ValidationError) -> MetadataRefused:
    details = sorted(invalid.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
    first = details[0]
    field = ".".join(str(part) for part in first["loc"] if part not in _BRANCHES) or None
    return MetadataRefused(
        file,
        _words(first, field or "the document"),
        field=field,
        next_step="correct it and publish the folder again; fields: docs/schemas/bundle-metadata.v1.json",
    )


def _words(detail: ErrorDetails, field: str) -> str:
    match detail["type"]:
        case "missing":
            return f"{field} is missing"
        case "extra_forbidden":
            close = close_matches(field, BundleMetadata.model_fields)
            hint = f"did you mean {' or '.join(close)}?" if close else "what has no field of its own belongs into extra"
            return f"there is no field {clip(field, 80)!r}; {hint}"
        case "value_error":
            return f"{field}: {detail['ctx']['error']}"
    return f"{field}: {detail['msg'][:1].lower()}{detail['msg'][1:]} (it is {clip(repr(detail['input']), 80)})"


def metadata_schema() -> dict[str, Any]:
    """JSON Schema of the metadata."""
    schema = BundleMetadata.model_json_schema(mode="validation")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:fleetcast:bundle-metadata.v1",
        **schema,
        "examples": [EXAMPLE],
    }
