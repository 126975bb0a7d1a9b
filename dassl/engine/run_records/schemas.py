"""The contents of the records, which are checked whenever one is read."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from msgspec import Meta

from ...utils.schema import Count, Percent

Number = Annotated[float, Meta(ge=0, lt=2**63)]


class PartRecord(TypedDict):
    """The images of a split."""

    images: Count
    sha256: str  # of their paths and labels, in order


class DataRecord(TypedDict):
    """The data of a run, as `dassl.data.fingerprint.describe_data` returns it."""

    name: str
    root: str
    classes: list[str]
    all_classes: list[str]
    train: NotRequired[PartRecord]
    train_u: NotRequired[PartRecord]
    val: NotRequired[PartRecord]
    test: NotRequired[PartRecord]


class WeightRecord(TypedDict):
    """Shape and a few numbers of a weight of CLIP."""

    shape: str
    sample: str


class RunRecord(TypedDict, total=False):
    """run.json."""

    status: Literal["running", "finished", "failed"]
    command: str
    settings: dict[str, Any]
    model: str | None  # when the training of the tested model finished
    data: DataRecord | None
    clip: dict[str, WeightRecord]
    versions: dict[str, str]
    commit: str | None
    started: str
    finished: str
    seconds: Number


class CheckpointEntry(TypedDict):
    """One checkpoint of all models."""

    epoch: Count
    val_result: NotRequired[float | None]
    saved: NotRequired[str]


class CheckpointRecord(TypedDict, total=False):
    """checkpoint.json."""

    method: str
    backbone: str
    clip: dict[str, WeightRecord]
    trained_parameters: Count
    classes: list[str]
    data: DataRecord | None
    selection: str
    checkpoints: dict[str, CheckpointEntry]
    tensors: dict[str, dict[str, str]]
    settings: dict[str, Any]
    versions: dict[str, str]
    commit: str | None


class Resources(TypedDict):
    """Peak memory in bytes; None: no GPU was used."""

    host_bytes: Count
    cuda_bytes: Count | None


class ResultRecord(TypedDict):
    """result.json."""

    trainer: str
    dataset: str
    config: str
    seed: int
    shots: int
    classes: str
    source: str | None
    backbone: str
    selection: str
    epoch: Count | None
    split: str
    accuracy: Percent
    error: NotRequired[Percent]
    macro_f1: NotRequired[Percent]
    total: Count
    correct: Count
    settings: dict[str, Any]
    data: NotRequired[DataRecord | None]
    model_data: NotRequired[DataRecord | None]  # of the tested model's training
    clip: NotRequired[dict[str, WeightRecord]]
    warnings: NotRequired[list[str]]
    features: NotRequired[str]
    versions: NotRequired[dict[str, str]]
    commit: NotRequired[str | None]
    device: NotRequired[str]
    resources: NotRequired[Resources]
    precision: NotRequired[str | None]
    command: NotRequired[str]
