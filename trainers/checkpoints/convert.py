"""Convert output folders of the public code to ours, and of TextRefiner to those of its release."""

import os
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
from dassl.utils import write_json

from ..settings import DEFAULTS, SettingsError
from .fingerprints import check_clip_fingerprint, clip_fingerprint
from .layouts import (
    PROMPT_LEARNER,
    RELEASED,
    Content,
    check_keys,
    clip_name,
    method_of,
    read_content,
    release_files,
)
from .load import check_clip, check_epochs, read_checkpoint, wrong_values
from .record import MAX_LENGTH, RECORD, read_record

__all__ = ["to_ours", "to_release"]

# Controls that change what a trained model computes; the release has the defaults.
AT_TEST = {
    f"TRAINER.TEXTREFINER.{key}": DEFAULTS["TEXTREFINER"][key]
    for key in ("READ_SCALE", "READ", "AGGREGATE", "RANK", "RENORMALIZE")
}
Checkpoints = dict[str, dict[str, Any]]  # model -> content of its file


def to_ours(source: Path, target: Path, backbone: str) -> str:
    """Write the learned tensors of a public folder, and checkpoint.json; return the method.

    ``target`` must be missing or empty. The CLIP ``backbone`` (name or path) is compared with the
    CLIP weights in the files, unless it is "". A `SettingsError` names what prevents a conversion.
    """
    if (source / RECORD).is_file():
        raise SettingsError(f"{source} has a {RECORD}: it is in our layout already")
    clip_model = _load_clip(backbone) if backbone else None
    checkpoints = {}
    with _new_folder(target) as folder:
        for file, states in _read_files(source):
            contents = {name: read_content(name, state) for name, state in states.items()}
            for name, content in contents.items():
                check_clip(clip_model, content, str(source / name / file), "--backbone")
            learned = {k: v for content in contents.values() for k, v in content.learned.items()}
            unused = {key for content in contents.values() for key in content.unused}
            method = method_of(str(source), states, learned, unused)
            _check_learned(f"{file} of {source}", method, learned)
            own: dict[str, dict[str, Tensor]] = {name: {} for name in states}
            for key, value in learned.items():
                model, _, parameter = key.partition(".")
                own[model][parameter] = value
            for name, state in states.items():
                _save({"state_dict": own[name], **_progress(state)}, folder / name / file)
            progress = _progress(next(iter(states.values())))
            checkpoints[file] = {"val_result": None, **progress}
        _copy_pointers(source, folder, states)
        weights = {
            clip_name(k): v for content in contents.values() for k, v in content.clip.items()
        }
        classes, settings = _prompts(method, learned, weights, contents)
        record = {
            "method": method,
            "backbone": backbone or None,
            "clip": clip_fingerprint(clip_model.state_dict() if clip_model else weights),
            "classes": classes,
            "checkpoints": checkpoints,
            "tensors": {
                name: {k: " x ".join(map(str, v.shape)) or "number" for k, v in state.items()}
                for name, state in own.items()
            },
            "settings": {"TRAINER.NAME": method, **settings},
            "converted_from": str(source),
        }
        write_json(record, str(folder / RECORD))
    return method


def to_release(source: Path, target: Path, backbone: str) -> str:
    """Write one of our folders of TextRefiner on CoOp or PromptKD as its release does.

    ``target`` must be missing or empty. ``backbone`` is a name or path; "" uses the CLIP named in
    checkpoint.json. A `SettingsError` names what prevents a conversion.
    """
    record = read_record(str(source))
    if record is None:
        raise SettingsError(f"{source} has no {RECORD}, which names the backbone and the classes")
    name = backbone or record.backbone
    if not name:
        raise SettingsError(f"{source / RECORD} does not name the backbone: give it as --backbone")
    settings, classes = record.settings, record.classes
    changed = [key for key, value in AT_TEST.items() if settings.get(key, value) != value]
    if changed:
        raise SettingsError(
            f"{source} was trained with {', '.join(f'{key} {settings[key]}' for key in changed)}, "
            "which the release's code does not have: only the method itself can be converted"
        )
    clip_model = _load_clip(name)
    check_clip_fingerprint(str(source), clip_model, "--backbone", name)
    with _new_folder(target) as folder:
        for file, states in _read_files(source):
            learned = {
                f"{model}.{key}": value
                for model, state in states.items()
                for key, value in state["state_dict"].items()
            }
            method = method_of(str(source), states, learned)
            if record.method.removeprefix("TextRefiner") == "KgCoOp":
                method = record.method  # its tensors have CoOp's names
            if method not in RELEASED:
                raise SettingsError(
                    f"{source} contains {method}, but the release has only {' and '.join(RELEASED)}"
                )
            _check_learned(f"{file} of {source}", method, learned, clip_model)
            if RELEASED[method] == "COOP" and not classes:
                raise SettingsError(
                    f"{source / RECORD} does not contain the class names, which the release saves"
                )
            node = f"TRAINER.{RELEASED[method]}"
            if settings.get(f"{node}.PREC") == "fp16":
                convert_weights(clip_model)
            ctx = learned.get(f"{PROMPT_LEARNER}.ctx")
            init = settings.get(f"{node}.CTX_INIT", "")
            if not isinstance(init, str) or len(init) > MAX_LENGTH:
                raise SettingsError(f"{source / RECORD} has no valid {node}.CTX_INIT: restore it")
            words = init.replace("_", " ").split()
            words = words or ["X"] * (0 if ctx is None else ctx.shape[-2])
            files = release_files(learned, clip_model, " ".join(words), classes or [])
            for model, content in files.items():
                _save({**content, **_progress(states[model])}, folder / model / file)
        _copy_pointers(source, folder, states)
    return method


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Yield a folder that becomes ``target`` if the block succeeds, and is removed otherwise."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SettingsError(f"{target} exists and is not an empty folder: choose a new one")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise SettingsError(f"cannot write {target}: {error.strerror}") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.replace(target)  # which may exist as an empty folder
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_files(source: Path) -> Iterator[tuple[str, Checkpoints]]:
    """Yield (file name, {model: content}) of every checkpoint; all models must have it."""
    if not source.is_dir():
        raise SettingsError(f"there is no folder {source}")
    files = {
        name: found
        for name in sorted(os.listdir(source))
        if (found := {path.name for path in (source / name).glob("model*.pth.tar*")})
    }
    if not files:
        raise SettingsError(
            f"{source} contains no <model>/model*.pth.tar*: give the output folder of a run"
        )
    for file in sorted(set().union(*files.values())):
        missing = [name for name, found in files.items() if file not in found]
        if missing:
            raise SettingsError(f"{source} is incomplete: {', '.join(missing)} has no {file}")
        states = {name: read_checkpoint(str(source / name / file)) for name in files}
        check_epochs(str(source), states)
        yield file, states


def _check_learned(
    where: str, method: str, learned: Mapping[str, Tensor], clip_model: Any = None
) -> None:
    """Raise SettingsError unless learned tensors have the names, forms and values of a method.

    ``where`` names the files, one per model. With ``clip_model`` the width of contexts is compared
    with its own.
    """
    check_keys(where, method, learned)
    for key, value in learned.items():
        problem = wrong_values(key, value)
        if key == f"{PROMPT_LEARNER}.ctx":
            width = None if clip_model is None else clip_model.ln_final.weight.shape[0]
            if value.dim() not in (2, 3) or width not in (None, value.shape[-1]):
                problem = f"has shape {tuple(value.shape)}, which is no context of this CLIP"
        if problem:
            raise SettingsError(f"{key} in {where} {problem}: convert an undamaged checkpoint")


def _copy_pointers(source: Path, target: Path, names: Mapping[str, Any]) -> None:
    for name in names:
        if (source / name / "checkpoint").is_file():
            shutil.copyfile(source / name / "checkpoint", target / name / "checkpoint")


def _save(content: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)


def _progress(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return epoch and validation result, which are the same in both layouts."""
    return {key: state[key] for key in ("epoch", "val_result") if key in state}


def _load_clip(name: str) -> Any:
    return clip.load(name, device="cpu")[0].float().eval().requires_grad_(False)


def _prompts(
    method: str,
    learned: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    contents: Mapping[str, Content],
) -> tuple[list[str] | None, dict[str, Any]]:
    """Return class names and the settings of context and precision that the files determine."""
    node = RELEASED.get(method)
    if node is None:
        return None, {}
    half = any(value.dtype == torch.float16 for value in weights.values())
    settings: dict[str, Any] = {f"TRAINER.{node}.PREC": "fp16" if half else "fp32"}
    buffers = {key: v for content in contents.values() for key, v in content.class_buffers.items()}
    ids = buffers.get("tokenized_prompts")
    if ids is None or node != "COOP":
        return None, settings
    count = learned[f"{PROMPT_LEARNER}.ctx"].shape[-2]
    context, classes = _words(ids, count)
    if classes is not None:
        settings |= {f"TRAINER.{node}.CTX_INIT": context, f"TRAINER.{node}.N_CTX": count}
    return classes, settings


def _words(ids: Tensor, count: int) -> tuple[str, list[str] | None]:
    """Return initial context ("" for placeholders) and class names of prompts (C, 77).

    The names are None if tokenizing the text does not give the same tokens.
    """
    tokenizer = SimpleTokenizer()
    integers = ids.dim() == 2 and ids.numel() and ids.dtype in (torch.int32, torch.int64)
    if not integers or int(ids.min()) < 0 or int(ids.max()) >= len(tokenizer.encoder):
        return "", None
    rows = [row[1 : int(row.argmax())].tolist() for row in ids]
    context = tokenizer.decode(rows[0][:count]).strip()
    names = [tokenizer.decode(row[count:-1]).strip() for row in rows]
    for row, name in zip(rows, names, strict=True):
        if tokenizer.encode(f"{context} {name}.") != row:
            return "", None
    return ("" if set(context.split()) == {"x"} else context), names
