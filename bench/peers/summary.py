"""What do the rounds say about each peer? Best and median, and the ratio to dialocpp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from peers import PEERS

# Column -> (from a record to one number, whether more is better). Of several runs in a round the best counts.
COLUMNS: dict[str, tuple[Callable[[dict[str, Any]], float], bool]] = {
    "decode": (lambda record: max(record["decode"]), True),
    "prefill": (lambda record: max(record["prefill"]), True),
    "decode16": (lambda record: max(record["decode16"]), True),
    "cold_start_s": (lambda record: record["cold_start_s"], False),
    "peak_rss_bytes": (lambda record: record["peak_rss_bytes"], False),
}


@dataclass(frozen=True)
class Cell:
    """One peer in one column. `ratio` above 1: the rival dialocpp variant is so many times better."""

    best: float
    median: float
    ratio: float | None


@dataclass(frozen=True)
class Row:
    """One peer. No cell where no round measured it; then `error` says why."""

    name: str
    is_dialocpp: bool
    rival: str
    cells: dict[str, Cell]
    error: str | None


def summarise(records: list[dict[str, Any]]) -> list[Row]:
    """A row for each peer that was asked for, in the order of PEERS."""
    asked = {record["peer"] for record in records}
    numbers = {name: _numbers([r for r in records if r["peer"] == name]) for name in asked}
    rows = []
    for peer in PEERS:
        if peer.name not in asked:
            continue
        own, rival = numbers[peer.name], numbers.get(f"dialocpp {peer.rival}", {})
        cells = {
            column: Cell(_best(column, values), median(values), _ratio(column, values, rival.get(column)))
            for column, values in own.items()
        }
        errors = [record["error"] for record in records if record["peer"] == peer.name and "error" in record]
        rows.append(Row(peer.name, peer.engine == "dialocpp", peer.rival, cells, next(iter(errors), None)))
    return rows


def best_roofs(records: list[dict[str, Any]]) -> dict[str, float]:
    """The highest roof of all rounds: that is what the machine can do when nobody disturbs it."""
    measured = [record["roofs"] for record in records if record.get("roofs")]
    kinds = ("read_gb_s", "int8_gop_s", "float32_gop_s")
    return {kind: max((roofs[kind] or 0.0 for roofs in measured), default=0.0) for kind in kinds}


def _numbers(records: list[dict[str, Any]]) -> dict[str, list[float]]:
    values = {
        column: [number(record) for record in records if column in record]
        for column, (number, _) in COLUMNS.items()
    }
    return {column: rounds for column, rounds in values.items() if rounds}


def _best(column: str, values: list[float]) -> float:
    return max(values) if COLUMNS[column][1] else min(values)


def _ratio(column: str, values: list[float], rival: list[float] | None) -> float | None:
    if not rival:
        return None
    own, other = _best(column, values), _best(column, rival)
    return other / own if COLUMNS[column][1] else own / other
