"""Render results as Markdown."""

from collections.abc import Iterable
from typing import Any

__all__ = ["document", "markdown", "refiner_table", "table"]

# Images per second at test, read off the authors' figure (arXiv 2412.08176). Their GPU is unknown,
# so no ratio is computed.
AUTHORS = {"TextRefinerCoOp": 10_200, "TextRefinerPromptKD": 12_800}


def table(header: list[str], rows: Iterable[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def document(title: str, results: dict[str, Any], note: str, *parts: str) -> str:
    """Return a document: title, command, commit, note, facts about the machine and ``parts``."""
    machine = results["machine"]
    heading = [
        f"# {title} on {machine['processor']}, {machine['device']}",
        f"`{results['command']}`, commit {results['commit']}. {note}",
        table(["fact", "value"], [[key, str(value)] for key, value in machine.items()]),
    ]
    return "\n\n".join([*heading, *parts]) + "\n"


def markdown(results: dict[str, Any]) -> str:
    """Render the results of benchmarks/bench.py."""
    what = ["what", "naive s", "fast s", "ratio", "wanted", "images/s", "operations' ratio", "note"]
    growth = [
        [
            row["what"],
            ", ".join(map(str, row["sizes"])),
            ", ".join(f"{seconds:.3g}" for seconds in row["seconds"]),
            f"{row['exponent']:.2f}",
        ]
        for row in results["growth"]
    ]
    waiting = [
        *([r["what"], f"{r['seconds']:.1f} s to the end of step 1"] for r in results["startup"]),
        *([r["what"], f"{100 * r['share']:.1f} % of a step"] for r in results["data"]),
    ]
    return document(
        "Speed",
        results,
        "Median of runs in turns (naive, fast, naive, fast, ...) in one process after a warm-up of "
        "each; seconds per run, fp32 unless noted. Ratio: naive / fast. ViT-B/16 (teacher "
        "ViT-L/14) with random weights, the first class names of ImageNet, context of 4 words.",
        "## Time",
        table(what, map(_time, results["rows"])),
        "## TextRefiner over plain CoOp",
        refiner_table(results["refiner"]),
        "## Peak memory of a train step, beyond the model",
        table(["what", "naive GiB", "fast GiB", "ratio", "note"], map(_memory, results["memory"])),
        "## Growth",
        table(["cost", "sizes", "seconds", "exponent"], growth),
        "## From the start of the process, and waiting for data",
        table(["what", "value"], waiting),
        "## What bounds it",
        _bounds(results),
        *(["## On the GPU", _gpu(results)] if results.get("gpu") else []),
    )


def refiner_table(rows: list[dict[str, Any]]) -> str:
    """Return the table of benchmarks/refiner.py: medians and quartiles of pairs."""

    def cells(row: dict[str, Any], name: str) -> list[str]:
        low, high = row[f"{name}_quartiles"]
        return [
            f"{row[f'{name}_percent']:+.1f} % ({low:+.1f} to {high:+.1f})",
            f"{row[f'{name}_percent_of_operations']:+.1f} %",
        ]

    header = ["at", "train step (wanted <= 3 %)", "its matrix products", "test (wanted 0 %)"]
    facts = [[row["what"], *cells(row, "step"), *cells(row, "test")] for row in rows]
    note = f"Medians and quartiles of the ratios of {rows[0]['pairs']} neighboring runs each."
    return f"{table([*header, header[2]], facts)}\n\n{note}"


def _time(row: dict[str, Any]) -> list[str]:
    return [
        row["what"],
        f"{row['naive']:.4g}",
        f"{row['fast']:.4g}",
        f"**{row['ratio']:.2f}**",
        f">= {row['wanted']:g}" if row["wanted"] else "",
        f"{row['images'] / row['fast']:.1f}" if row["images"] else "",
        f"{row['naive_gflop'] / row['fast_gflop']:.2f}" if row["fast_gflop"] else "",
        row["note"],
    ]


def _memory(row: dict[str, Any]) -> list[str]:
    naive, fast = row["naive"] / 2**30, row["fast"] / 2**30
    return [row["what"], f"{naive:.2f}", f"{fast:.2f}", f"{naive / fast:.1f}", row["note"]]


def _bounds(results: dict[str, Any]) -> str:
    """Explain which ratios the numbers of operations allow."""
    lines = [
        "The operations' ratio in the first table is the ratio of the matrix products, counted by "
        "torch.utils.flop_counter. It equals the time ratio if both run them at the same rate. A "
        "larger time ratio also saves attention weights, copies and element-wise operations; a "
        "smaller one runs smaller matrices at a lower rate.\n",
    ]
    missed = [row for row in results["rows"] if row["wanted"] and row["ratio"] < row["wanted"]]
    for row in missed:
        slow, fast = (row[f"{kind}_gflop"] / row[kind] for kind in ("naive", "fast"))
        lines.append(
            f"- **{row['what']}** reached {row['ratio']:.2f} of {row['wanted']:g}: "
            f"{row['naive_gflop']:.0f} against {row['fast_gflop']:.0f} GFLOP, at {slow:.0f} and "
            f"{fast:.0f} GFLOP/s."
        )
    if not missed:
        lines.append("- All wanted ratios are reached.")
    lines.append(
        "- TextRefiner uses every token of an image, plain CoOp only CLS: the last vision block is "
        "computed for all tokens (5/6 of 1/12 of the image encoder), and so is the alignment. "
        "BatchNorm and the cache depend on every token, so this cost cannot be avoided. Its share "
        "of a step falls with the number of classes, which determines the text encoder's share."
    )
    return "\n".join(lines)


def _gpu(results: dict[str, Any]) -> str:
    """Return the throughput, the authors' figure and the share of the card's peak."""
    header = ["what", "images/s", "authors' figure, images/s", "of the card's bf16 peak"]
    rows = [
        [
            row["what"],
            f"{row['images_per_second']:,.0f}",
            f"{AUTHORS[row['method']]:,}" if row["method"] in AUTHORS else "",
            f"{100 * row['share_of_peak']:.0f} %" if row["share_of_peak"] else "unknown card",
        ]
        for row in results["gpu"]
    ]
    device = results["machine"]["device"]
    note = f"Ours: {device}. The authors': read off their figure, measured on their GPU."
    return f"{table(header, rows)}\n\n{note}"
