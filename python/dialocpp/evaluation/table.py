"""How does one print rows of measures: as the paper's table, in text, Markdown, LaTeX or JSON, and as a picture?"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dialocpp.errors import DialocppError

from .metrics import Value

PUBLISHED = Path(__file__).with_name("published.json")
TABLES = ("6k", "dstc7")


@dataclass(frozen=True)
class Row:
    """One line of a table: the replies of one system."""

    name: str
    values: Mapping[str, Value]
    published: bool = False


# Measure -> (decimals, whether it is a share that is printed in percent), in the paper's order; then what it has not.
_FORMS = {
    "NIST-2": (2, False),
    "NIST-4": (2, False),
    "BLEU-2": (2, True),
    "BLEU-4": (2, True),
    "METEOR": (2, True),
    "Entropy-4": (2, False),
    "Dist-1": (2, True),
    "Dist-2": (2, True),
    "Avg. length": (1, False),
    "ROUGE-L": (2, True),
    "chrF": (2, False),
}


def published(table: str) -> list[Row]:
    """The rows of DialoGPT's own tables: `6k`, the 6K multi-reference set, or `dstc7`."""
    rows = json.loads(PUBLISHED.read_text(encoding="utf-8"))[table]
    return [
        Row(row["name"], {name: Value(value, None) for name, value in row.items() if name != "name"}, published=True)
        for row in rows
    ]


def as_text(rows: Sequence[Row]) -> str:
    cells = _cells(rows, " ± ", "")
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = (
        "  ".join([line[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(line[1:], widths[1:], strict=True))])
        for line in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def as_markdown(rows: Sequence[Row]) -> str:
    head, *lines = _cells(rows, " ± ", "")
    rule = ["---", *("---:" for _ in head[1:])]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in (head, rule, *lines)
    )


def as_latex(rows: Sequence[Row]) -> str:
    """A tabular for the package booktabs."""
    head, *lines = ([_escaped(cell) for cell in line] for line in _cells(rows, r" $\pm$ ", "--"))
    begin = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", " & ".join(head) + r" \\", r"\midrule"]
    return "\n".join([*begin, *(" & ".join(line) + r" \\" for line in lines), r"\bottomrule", r"\end{tabular}"])


def as_json(rows: Sequence[Row]) -> str:
    """Shares as numbers from 0 to 1, unrounded."""
    return json.dumps([_plain(row) for row in rows], ensure_ascii=False)


FORMATS: dict[str, Callable[[Sequence[Row]], str]] = {
    "text": as_text,
    "markdown": as_markdown,
    "latex": as_latex,
    "json": as_json,
}


def plot(rows: Sequence[Row], path: Path) -> None:
    """For each measure a bar of each row, with its interval. The file's name says the format; needs matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DialocppError('expected matplotlib for a plot, found none; pip install "dialocpp[eval]".') from error
    names = _measures(rows)
    columns = min(len(names), 6)
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(2.1 * columns + 1.6, (0.26 * len(rows) + 0.8) * lines), layout="constrained")
    places = figure.subplots(lines, columns, squeeze=False).flat
    for place, axes in enumerate(places):
        if place < len(names):
            _bars(axes, rows, names[place], labelled=place % columns == 0)
        else:
            axes.set_axis_off()
    if any(row.published for row in rows):
        figure.supxlabel("grey: published by DialoGPT's authors", fontsize=7, color="#6d7478")
    figure.savefig(path, dpi=150)


def _bars(axes: Any, rows: Sequence[Row], name: str, labelled: bool) -> None:
    scale = 100 if _FORMS[name][1] else 1
    shown = [row.values.get(name, Value(0.0, None)) for row in rows]
    axes.barh(
        range(len(rows)),
        [value.value * scale for value in shown],
        xerr=[(value.margin or 0) * scale for value in shown],
        color=["#b9c6cc" if row.published else "#c8703a" for row in rows],
        error_kw={"elinewidth": 1},
    )
    axes.invert_yaxis()
    axes.set_title(name + (", %" if scale == 100 else ""), fontsize=9)
    axes.set_yticks(range(len(rows)), [row.name if labelled else "" for row in rows], fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _measures(rows: Sequence[Row]) -> list[str]:
    return [name for name in _FORMS if any(name in row.values for row in rows)]


def _cells(rows: Sequence[Row], plus_minus: str, none: str) -> list[list[str]]:
    names = _measures(rows)
    return [
        ["", *names],
        *([row.name, *(_shown(row.values.get(n), n, plus_minus, none) for n in names)] for row in rows),
    ]


def _shown(value: Value | None, name: str, plus_minus: str, none: str) -> str:
    if value is None:
        return none
    decimals, share = _FORMS[name]
    scale, unit = (100, "%") if share else (1, "")
    margin = "" if value.margin is None else f"{plus_minus}{value.margin * scale:.{decimals}f}"
    return f"{value.value * scale:.{decimals}f}{margin}{unit}"


def _plain(row: Row) -> dict[str, Any]:
    values = {
        name: {"value": v.value} | ({} if v.margin is None else {"margin": v.margin}) for name, v in row.values.items()
    }
    return {"name": row.name, "published": row.published, "measures": values}


def _escaped(text: str) -> str:
    return "".join("\\" + c if c in "%&#_" else c for c in text)
