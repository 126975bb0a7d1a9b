"""Output folders of the public code into ours, and of TextRefiner into those of its release."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clip import clip
from clip.model import convert_weights
from clip.simple_tokenizer import SimpleTokenizer
from dassl.engine.run_records import RECORD, read_record
from dassl.utils import UsageError, load_checkpoint, write_json
from trainers.checkpoints.fingerprints import check_identity, clip_identity
from trainers.checkpoints.layouts import Content, clip_name, read_content, release_files
from trainers.checkpoints.load import check_clip
from trainers.checkpoints.methods import RELEASED, check_clip_names, check_keys, method_of

Learned = dict[str, Tensor]


def to_ours(source: Path, target: Path, backbone: str) -> str:
    """Write the learned tensors of a public folder, and checkpoint.json. Returns the method.

    Args:
        source: an output folder of CoOp, CoCoOp, MaPLe, PromptSRC, PromptKD or TextRefiner's
            release.
        target: a folder that does not exist or is empty.
        backbone: CLIP by name or path, with which the copies of CLIP in the files are compared;
            "": they are not.

    Raises:
        UsageError: half a folder, unknown keys, an existing target.
    """
    if read_record(source):
        raise UsageError(f"{source} has a {RECORD}: it is in our layout already")
    clip_model = _load_clip(backbone) if backbone else None
    checkpoints = {}
    with _new_folder(target) as folder:
        for file, states in _read_files(source):
            contents = {name: read_content(name, state) for name, state in states.items()}
            for name, content in contents.items():
                path = source / name / file
                check_clip_names(path, {key: clip_name(key) for key in content.clip})
                if clip_model is not None:
                    check_clip(clip_model, content.clip, str(path), "--backbone")
            learned = {k: v for content in contents.values() for k, v in content.learned.items()}
            method = method_of(source, states, learned)
            check_keys(source / file, method, learned)
            epoch, result = _shared(states)
            checkpoints[file] = {"epoch": epoch, "val_result": result}
            for name in states:
                state = {k.removeprefix(f"{name}."): v for k, v in learned.items() if _of(name, k)}
                _save({"state_dict": state, **_kept(states[name])}, folder / name / file)
        _copy_pointers(source, folder, states)
        record = {
            "method": method,
            "backbone": backbone or None,
            "clip": clip_identity(clip_model.state_dict() if clip_model else _clip_of(contents)),
            "classes": None,
            "checkpoints": checkpoints,
            "tensors": {
                name: {
                    k.removeprefix(f"{name}."): " x ".join(map(str, v.shape)) or "number"
                    for k, v in learned.items()
                    if _of(name, k)
                }
                for name in states
            },
            "settings": {"TRAINER.NAME": method},
            "converted_from": str(source),
        }
        _add_prompts(record, method, learned, contents)
        write_json(record, folder / RECORD)
    return method


def to_release(source: Path, target: Path, backbone: str) -> str:
    """Write one of our folders of TextRefiner on CoOp or PromptKD as its release does.

    Args:
        source: with a checkpoint.json.
        target: a folder that does not exist or is empty.
        backbone: CLIP by name or path; "": the one that checkpoint.json names.

    Raises:
        UsageError: another method, no backbone or class names, half a folder, an existing target.
        SettingsError: the backbone is not that of the training.
    """
    record = read_record(source)
    if not record:
        raise UsageError(f"{source} has no {RECORD}, which names the backbone and the classes")
    name = backbone or record["backbone"]
    if not name:
        raise UsageError(f"{source / RECORD} does not name the backbone: give it as --backbone")
    settings, classes = record["settings"], record["classes"]
    clip_model = _load_clip(name)
    check_identity(str(source), clip_model, "--backbone", name)
    with _new_folder(target) as folder:
        for file, states in _read_files(source):
            learned = {
                f"{model}.{key}": value
                for model, state in states.items()
                for key, value in state["state_dict"].items()
            }
            method = method_of(source, states, learned)
            if method not in RELEASED:
                raise UsageError(
                    f"{source} holds {method}: the release has {' and '.join(RELEASED)} alone"
                )
            check_keys(source / file, method, learned)
            if method == "TextRefinerCoOp" and not classes:
                raise UsageError(
                    f"{source / RECORD} does not tell the class names, which the release saves"
                )
            node = RELEASED[method]
            if settings.get(f"TRAINER.{node}.PREC") == "fp16":
                convert_weights(clip_model)
            words = settings.get(f"TRAINER.{node}.CTX_INIT", "").replace("_", " ").split()
            words = words or ["X"] * settings.get(f"TRAINER.{node}.N_CTX", 0)
            files = release_files(learned, clip_model, " ".join(words), classes or [])
            for model, content in files.items():
                _save({**content, **_kept(states[model])}, folder / model / file)
        _copy_pointers(source, folder, states)
    return method


# --- folders ---


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes ``target`` when the block ends well; otherwise nothing stays."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is no empty folder: name a new one")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise UsageError(f"cannot write {target}: {error.strerror}") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.replace(target)  # an empty folder may be there
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_files(source: Path) -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """(file name, {model: checkpoint}) for every checkpoint, which all models must have."""
    if not source.is_dir():
        raise UsageError(f"there is no folder {source}")
    files = {
        folder.name: {path.name for path in folder.glob("model*.pth.tar*")}
        for folder in sorted(source.iterdir())
        if folder.is_dir()
    }
    files = {name: found for name, found in files.items() if found}
    if not files:
        raise UsageError(f"{source} holds no <model>/model*.pth.tar*: name a run's output folder")
    for file in sorted(set().union(*files.values())):
        lacking = [name for name, found in files.items() if file not in found]
        if lacking:
            raise UsageError(f"{source} is half a folder: {', '.join(lacking)} has no {file}")
        states = {name: load_checkpoint(source / name / file) for name in files}
        for name, state in states.items():
            if "state_dict" not in state or "epoch" not in state:
                raise UsageError(f"{source / name / file} is no checkpoint of a run")
        yield file, states


def _copy_pointers(source: Path, target: Path, names: Any) -> None:
    for name in names:
        if (source / name / "checkpoint").is_file():
            shutil.copyfile(source / name / "checkpoint", target / name / "checkpoint")


def _save(content: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)


def _kept(state: Mapping[str, Any]) -> dict[str, Any]:
    """What of a checkpoint is the same in both layouts, besides its tensors."""
    return {key: state[key] for key in ("epoch", "val_result") if key in state}


def _shared(states: Mapping[str, Mapping[str, Any]]) -> tuple[int, float | None]:
    first = next(iter(states.values()))
    return first["epoch"], first.get("val_result")


def _of(name: str, key: str) -> bool:
    return key.startswith(f"{name}.")


# --- what checkpoint.json tells ---


def _load_clip(name: str) -> Any:
    """CLIP in float32, by name or path."""
    return clip.load(name, device="cpu")[0].float().eval().requires_grad_(False)


def _clip_of(contents: Mapping[str, Content]) -> dict[str, Tensor]:
    """The copy of CLIP in public files, by OpenAI's names; empty where there is none."""
    return {clip_name(k): v for content in contents.values() for k, v in content.clip.items()}


def _add_prompts(
    record: dict[str, Any], method: str, learned: Learned, contents: Mapping[str, Content]
) -> None:
    """Class names, initial context and precision, as far as the files of a CoOp tell them."""
    node = RELEASED.get(method)
    if node is None:
        return
    weights = _clip_of(contents)
    half = any(value.dtype == torch.float16 for value in weights.values())
    record["settings"][f"TRAINER.{node}.PREC"] = "fp16" if half else "fp32"
    buffers = {key: v for content in contents.values() for key, v in content.class_buffers.items()}
    ids = buffers.get("tokenized_prompts")
    if ids is None:
        return
    count = learned["prompt_learner.ctx"].shape[-2]
    prompts = _words(ids, count)
    if prompts is not None:
        context, record["classes"] = prompts
        record["settings"][f"TRAINER.{node}.CTX_INIT"] = context
        record["settings"][f"TRAINER.{node}.N_CTX"] = count


def _words(ids: Tensor, count: int) -> tuple[str, list[str]] | None:
    """Initial context ("" for placeholders) and class names of prompts (C, 77).

    None where text and tokens do not give each other.
    """
    tokenizer = SimpleTokenizer()
    rows = [row[1 : int(row.argmax())].tolist() for row in ids]
    context = tokenizer.decode(rows[0][:count]).strip()
    names = [tokenizer.decode(row[count:-1]).strip() for row in rows]
    for row, name in zip(rows, names, strict=True):
        if tokenizer.encode(f"{context} {name}.") != row:
            return None
    return ("" if set(context.split()) == {"x"} else context), names
