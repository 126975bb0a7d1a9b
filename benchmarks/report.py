"""The results as Markdown."""

from typing import Any

__all__ = ["markdown", "refiner_table", "table"]

# Images a second at test, read off the authors' figure (arXiv 2412.08176); their GPU is not known
# here, so the numbers stand beside ours and no ratio is made of them.
AUTHORS = {"TextRefinerCoOp": 10_200, "TextRefinerPromptKD": 12_800}


def markdown(results: dict[str, Any]) -> str:
    """All of ``results`` (benchmarks/bench.py) as tables."""
    machine = results["machine"]
    parts = [
        f"# Speed on {machine['processor']}, {machine['device']}",
        f"`{results['command']}`, commit {results['commit']}. Median of runs in turns (naive, "
        "fast, naive, fast, ...) in one process after a warm-up of each; seconds a run, fp32 "
        "unless told. Ratio: naive / fast. ViT-B/16 (teacher ViT-L/14) with random weights, the "
        "first of ImageNet's class names, context of 4 words.",
        table(["fact", "value"], [[k, str(v)] for k, v in machine.items()]),
        "## Time",
        table(
            [
                "what",
                "naive s",
                "fast s",
                "ratio",
                "wanted",
                "images/s",
                "operations' ratio",
                "note",
            ],
            [_time(row) for row in results["rows"]],
        ),
        "## TextRefiner over plain CoOp",
        refiner_table(results["refiner"]),
        "## Peak memory of a train step, beyond the model",
        table(
            ["what", "naive GiB", "fast GiB", "ratio", "note"],
            [_memory(row) for row in results["memory"]],
        ),
        "## Growth",
        table(
            ["cost", "sizes", "seconds", "exponent"],
            [
                [
                    row["what"],
                    ", ".join(map(str, row["sizes"])),
                    ", ".join(f"{s:.3g}" for s in row["seconds"]),
                    f"{row['exponent']:.2f}",
                ]
                for row in results["growth"]
            ],
        ),
        "## From the start of the process, and waiting for data",
        table(
            ["what", "value"],
            [
                *[
                    [r["what"], f"{r['seconds']:.1f} s to the end of step 1"]
                    for r in results["startup"]
                ],
                *[[r["what"], f"{100 * r['share']:.1f} % of a step"] for r in results["data"]],
            ],
        ),
        "## What bounds it",
        bounds(results),
    ]
    if results.get("gpu"):
        parts += ["## On the GPU", gpu(results)]
    return "\n\n".join(parts) + "\n"


def refiner_table(rows: list[dict[str, Any]]) -> str:
    """What TextRefiner adds to CoOp, by benchmarks/refiner.py: medians and quartiles of pairs."""

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
    count = row["naive_gflop"] / row["fast_gflop"] if row["fast_gflop"] else 0
    return [
        row["what"],
        f"{row['naive']:.4g}",
        f"{row['fast']:.4g}",
        f"**{row['ratio']:.2f}**",
        f">= {row['wanted']:g}" if row["wanted"] else "",
        f"{row['images'] / row['fast']:.1f}" if row["images"] else "",
        f"{count:.2f}" if count else "",
        row["note"],
    ]


def _memory(row: dict[str, Any]) -> list[str]:
    naive, fast = row["naive"] / 2**30, row["fast"] / 2**30
    return [row["what"], f"{naive:.2f}", f"{fast:.2f}", f"{naive / fast:.1f}", row["note"]]


def bounds(results: dict[str, Any]) -> str:
    """What a step of the fast code spends its operations on, and which ratio they allow."""
    lines = [
        "The operations' ratio in the first table is that of the matrix products, counted by "
        "torch.utils.flop_counter: what the ratio would be if both ran them at the same rate. "
        "A measured ratio above it also saves attention weights, copies and "
        "element-wise work; one below it runs smaller matrices, at a lower rate.\n",
    ]
    short = [row for row in results["rows"] if row["wanted"] and row["ratio"] < row["wanted"]]
    for row in short:
        slow, fast = (row[f"{kind}_gflop"] / row[kind] for kind in ("naive", "fast"))
        lines.append(
            f"- **{row['what']}** reached {row['ratio']:.2f} of {row['wanted']:g}: "
            f"{row['naive_gflop']:.0f} against {row['fast_gflop']:.0f} GFLOP, at {slow:.0f} and "
            f"{fast:.0f} GFLOP/s."
        )
    if not short:
        lines.append("- Every ratio to naive that was wanted is reached.")
    lines.append(
        "- TextRefiner reads every token of an image where plain CoOp reads CLS alone: the last "
        "vision block is finished for all of them (5/6 of 1/12 of the tower), and the alignment "
        "runs on each. That share of a step is its lower bound. It falls with the number of "
        "classes, which sets the text tower's part of the step, and cannot be saved: BatchNorm "
        "and the cache see every token."
    )
    return "\n".join(lines)


def gpu(results: dict[str, Any]) -> str:
    """Throughput beside the authors' figure, and the share of the card's peak."""
    rows = []
    for row in results["gpu"]:
        authors = AUTHORS.get(row["method"])
        rows.append(
            [
                row["what"],
                f"{row['images_per_second']:,.0f}",
                f"{authors:,}" if authors else "",
                f"{100 * row['share_of_peak']:.0f} %" if row["share_of_peak"] else "unknown card",
            ]
        )
    note = (
        f"Ours: {results['machine']['device']}. The authors': read off their figure, on their GPU."
    )
    header = ["what", "images/s", "authors' figure, images/s", "of the card's bf16 peak"]
    return f"{table(header, rows)}\n\n{note}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
