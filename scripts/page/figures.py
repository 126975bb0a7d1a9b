"""Figures as inline SVG in the colors of the page, so that they follow light and dark mode.

matplotlib draws with the placeholder colors of `COLORS`; `inline_svg` replaces them by the page's
CSS variables, keeps text as text, and drops what HTML does not need.
"""

import io
import itertools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .calibration import Bin

__all__ = ["curve", "heatmap", "histogram", "inline_svg", "new_figure", "reliability_diagram"]

# CSS variable of style.css -> the color that it has while matplotlib draws
COLORS = {
    "ink": "#010101",
    "muted": "#020202",
    "line": "#030303",
    "blue": "#040404",
    "orange": "#050505",
    "page": "#060606",
}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text remains text
    "svg.hashsalt": "report",  # the same file for the same run
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": COLORS["muted"],
    "axes.labelcolor": COLORS["ink"],
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.8,
    "text.color": COLORS["ink"],
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "xtick.labelcolor": COLORS["ink"],
    "ytick.labelcolor": COLORS["ink"],
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}
_number = itertools.count()


def new_figure(width: float, height: float) -> tuple["Figure", "Axes"]:
    """Return a figure of this size in inches, and its axes; use it within `style`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_visible(False)
    axes = figure.subplots()
    axes.patch.set_visible(False)
    return figure, axes


def style() -> Any:
    """Return the context in which figures are drawn."""
    from matplotlib import rc_context

    return rc_context(STYLE)


def inline_svg(figure: "Figure", label: str) -> Markup:
    """Return the figure as an <svg> element with ``label`` as its text alternative."""
    content = io.StringIO()
    figure.savefig(content, format="svg", transparent=True, metadata={"Date": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = _unique_ids(text)
    for name, color in COLORS.items():
        text = text.replace(color, f"var(--{name})")
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', head)
    if box is None:
        raise ValueError("matplotlib wrote an SVG without a viewBox")
    start = Markup('<svg viewBox="{}" role="img" aria-label="{}"').format(box[1], label)
    body = re.sub(r"font: (?:\d+ )?([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    body = re.sub(r"\n\s*", "\n", body)
    return Markup(f"{start}>{body.strip()}")


def _unique_ids(text: str) -> str:
    """Remove ids that nothing refers to, and make the others unique on the page."""
    used = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
    names = {name for pair in used for name in pair if name}
    prefix = f"f{next(_number)}-"

    def rename(match: re.Match[str]) -> str:
        return f' id="{prefix}{match[1]}"' if match[1] in names else ""

    text = re.sub(r' id="([^"]*)"', rename, text)
    text = re.sub(r"url\(#", f"url(#{prefix}", text)
    return re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}', text)


def reliability_diagram(bins: Sequence["Bin"]) -> Markup:
    """Draw the accuracy of each bin as a bar, beside the diagonal of perfect calibration."""
    with style():
        figure, axes = new_figure(4.6, 3.6)
        for row in bins:
            if row.accuracy is None or row.confidence is None:
                continue
            width = row.high - row.low
            axes.bar(row.low, row.accuracy, width, align="edge", color=COLORS["blue"],
                     edgecolor=COLORS["page"], linewidth=1)  # fmt: skip
            axes.plot([row.confidence], [row.accuracy], "o", color=COLORS["orange"], ms=4)
        axes.plot([0, 1], [0, 1], "--", color=COLORS["ink"], lw=1.2)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="accuracy")
        return inline_svg(figure, "Reliability diagram: accuracy against confidence")


def curve(title: str, points: Sequence[tuple[int, float]], x_label: str) -> Markup:
    """Draw one curve of (step, value) points."""
    with style():
        figure, axes = new_figure(3.4, 2.2)
        steps, values = zip(*points, strict=True)
        marker = "o" if len(points) < 25 else ""
        axes.plot(steps, values, color=COLORS["blue"], marker=marker, ms=3)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_xlabel(x_label)
        label = f"{title}: from {values[0]:.4g} to {values[-1]:.4g} in {steps[-1]:,} {x_label}s"
        return inline_svg(figure, label)


def histogram(values: Sequence[float], x_label: str, label: str) -> Markup:
    """Draw how often values occur."""
    with style():
        figure, axes = new_figure(4.6, 2.4)
        axes.hist(values, bins=20, color=COLORS["blue"], edgecolor=COLORS["page"])
        axes.set(xlabel=x_label, ylabel="pairs")
        return inline_svg(figure, label)


def heatmap(
    values: Sequence[Sequence[float]], rows: Sequence[str], low: float, high: float, label: str
) -> Markup:
    """Draw a matrix as squares, from transparent at ``low`` to blue at ``high``, with row names."""
    cell, height = 12, 14
    left = 7 * max(map(len, rows)) + 8
    columns = len(values[0])
    width, total = left + cell * columns, height * len(rows) + 16
    scale = (high - low) or 1.0
    parts = [
        Markup(
            '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" class="heatmap" '
            'style="max-width: {}px">'
        ).format(width, total, label, round(1.3 * width))
    ]
    for i, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = height * i
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(left - 6, y + 10, name)
        )
        for j, value in enumerate(row):
            strength = min(1.0, max(0.0, (value - low) / scale))
            parts.append(
                Markup(
                    '<rect x="{}" y="{}" width="11" height="13" fill-opacity="{}">'
                    "<title>{}, entry {}: {}</title></rect>"
                ).format(left + cell * j, y, f"{strength:.2f}", name, j + 1, f"{value:.2f}")
            )
    for j in range(0, columns, 5):
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(
                left + cell * j + 5, total - 4, j + 1
            )
        )
    return Markup("").join([*parts, Markup("</svg>")])
