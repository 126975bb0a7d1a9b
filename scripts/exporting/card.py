"""The model card (README.md) of an export, ready for a model hub."""

from pathlib import Path
from typing import Any

from dassl.engine.run_records import read_result
from dassl.engine.run_records.schemas import ResultRecord
from dassl.utils import atomic_path

from .formats import Written

CITATION = "Xie et al., TextRefiner, AAAI 2025, arXiv:2412.08176"
UNKNOWN_DATA = "data that the run folder does not name"


def accuracy_line(classifier: Any, recorded: Any, result: ResultRecord) -> str:
    """Return what is known about the accuracy of exactly this model on exactly these classes."""
    unknown = "not recorded"
    if not result:
        return f"{unknown}: the run folder has no result.json"
    if not classifier.checkpoint:
        same_model = result["selection"] == "zero-shot"
    elif classifier.epoch is None:
        same_model = result["selection"].startswith("best")
    else:
        same_model = result["epoch"] == classifier.epoch
    if result["trainer"] != classifier.method or not same_model:
        return f"{unknown}: the newest test in the run folder is of another checkpoint"
    data = result.get("data")
    tested = data["classes"] if data else recorded.classes
    trained_here = result["source"] in (None, result["dataset"])
    if list(classifier.classnames) != list(tested) or not trained_here:
        return f"{unknown}: the newest test in the run folder is of other data or classes"
    classes = "all classes" if result["classes"] == "all" else f"{result['classes']} classes"
    return (
        f"{result['accuracy']:.2f} % on {result['total']:,} {result['split']} images of "
        f"{result['dataset']}, {classes}; selection: {result['selection']}"
    )


def model_card(classifier: Any, recorded: Any, run: str, name: str, written: Written) -> str:
    """Return the text of README.md.

    Args:
        classifier: the exported `trainers.classifier.Classifier`.
        recorded: what the run folder records about it.
        run: the run folder.
        name: of the format.
        written: what was written.
    """
    result, settings = read_result(run), recorded.settings
    dataset = recorded.data or settings.get("DATASET.NAME") or UNKNOWN_DATA
    shots = settings.get("DATASET.NUM_SHOTS", 0)
    subset = settings.get("DATASET.SUBSAMPLE_CLASSES", "all")
    facts = {
        "method": classifier.method,
        "backbone": f"{classifier.backbone}, frozen",
        "training data": ", ".join(
            part
            for part in (
                str(dataset),
                f"{shots} images per class" if isinstance(shots, int) and shots > 0 else "",
                "all classes" if subset == "all" else f"{subset} classes",
                f"seed {settings['SEED']}" if "SEED" in settings else "",
            )
            if part
        ),
        "checkpoint": classifier.checkpoint or "none, zero-shot",
        "accuracy": accuracy_line(classifier, recorded, result),
        "classes": f"{len(classifier.classnames)}",
        "format": f"{name}, float32",
    }
    lines = [*_header(classifier, written), f"# {classifier.method} on {classifier.backbone}", ""]
    trained = f"trained on {dataset}" if classifier.checkpoint else "not trained (zero-shot)"
    lines.append(
        f"An image classifier for {len(classifier.classnames)} classes, {trained}, made with the "
        "TextRefiner reference implementation."
    )
    lines += ["", "| | |", "| --- | --- |", *(f"| {k} | {_cell(v)} |" for k, v in facts.items())]
    lines += ["", "## Use", "", "In this folder:", "", "```python", written.usage.rstrip(), "```"]
    lines += ["", *(f"- {note}" for note in written.notes), "", "## Files", ""]
    lines += [f"- `{file}`: {what}" for file, what in written.files.items()]
    lines += ["- `export.json`: class names, image transform, origin"]
    lines += ["", "## Classes", "", ", ".join(classifier.classnames)]
    if command := result.get("command"):
        lines += ["", "## Command", "", f"    {command}"]
    lines += [
        *("", "## License", ""),
        "The code is under the MIT license. The weights derive from the CLIP named above and the "
        "training images: their own licenses and terms apply. Set `license` in the header of this "
        "file to what they permit before you publish it.",
        *("", f"Method: {CITATION}."),
    ]
    return "\n".join(lines) + "\n"


def _header(classifier: Any, written: Written) -> list[str]:
    """Return the YAML header that model hubs read."""
    tags = ["clip", "prompt-learning", "few-shot"]
    if classifier.model.refiner is not None:
        tags.append("textrefiner")
    lines = ["---", "license: other", "pipeline_tag: image-classification"]
    if written.library:
        lines.append(f"library_name: {written.library}")
    return [*lines, "tags:", *(f"- {tag}" for tag in tags), "---", ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def write_card(folder: Path, text: str) -> None:
    """Write README.md."""
    with atomic_path(folder / "README.md") as path:
        path.write_text(text, encoding="utf-8")
