"""How does the result look? One panel a task, one bar a peer, and the machine's limit as a line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from summary import Row
from table import machine_limit

mpl.use("Agg")
from matplotlib import pyplot as plt

PANELS = {
    "decode": "decode, 1 sequence",
    "prefill": "prefill, 512 tokens",
    "decode16": "decode, 16 sequences",
}
OWN, PEER = "#c2410c", "#94a3b8"


def plot(rows: list[Row], records: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG; a peer without a number keeps its line and is called missing."""
    setting = records[0]
    figure, axes = plt.subplots(1, len(PANELS), figsize=(13, 0.36 * len(rows) + 1.6), sharey=True)
    places = list(range(len(rows)))[::-1]
    limits = machine_limit(records, "int8")
    for axis, (task, title) in zip(axes, PANELS.items(), strict=True):
        values = [row.cells[task].best if task in row.cells else 0.0 for row in rows]
        axis.barh(places, values, color=[OWN if row.is_dialocpp else PEER for row in rows], height=0.7)
        axis.set_title(f"{title}, tokens/s", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
        for place, value in zip(places, values, strict=True):
            axis.annotate(
                f"{value:,.0f}" if value else "missing",
                (value, place),
                (3, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        right = 1.18 * max(values, default=1.0)
        if 0 < limits[task] < 2 * right:
            axis.axvline(limits[task], color="black", linewidth=0.8, linestyle="--")
            axis.annotate("int8 limit ", (limits[task], -0.45), ha="right", va="bottom", fontsize=7)
            right = max(right, 1.05 * limits[task])
        axis.set_xlim(0, right or 1)
    axes[0].set_yticks(places, [row.name for row in rows])
    figure.suptitle(
        f"DialoGPT-{setting['shape']}'s shape, {setting['threads']} threads, "
        f"{setting['cpu']}, {setting['date'][:10]}" + (", quick and noisy" if setting["quick"] else ""),
        fontsize=11,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
