"""How is the result printed? One table, and the figures that are not a race below it."""

from __future__ import annotations

from typing import Any

from dialocpp.benchmark.random_model import shape_config
from dialocpp.benchmark.work import token_work
from dialocpp.checkpoint.config import ModelConfig
from rich.console import Console
from rich.table import Table
from summary import Row, best_roofs

TITLES = {
    "decode": ("decode, 1 sequence\ntokens/s", "{:,.0f}"),
    "prefill": ("prefill, 512 tokens\ntokens/s", "{:,.0f}"),
    "decode16": ("decode, 16 sequences\ntokens/s", "{:,.0f}"),
    "cold_start_s": ("cold start\ns", "{:.2f}"),
    "peak_rss_bytes": ("peak RSS\nMB", "{:,.0f}"),
}


def show(rows: list[Row], records: list[dict[str, Any]], console: Console) -> None:
    """Print everything."""
    setting = records[0]
    rounds = max(record["round"] for record in records)
    table = Table(
        title=f"{setting['cpu']}, {setting['date'][:10]}: DialoGPT-{setting['shape']}'s shape, "
        f"{setting['threads']} threads, instruction sets: {setting['isa']}; best (median) of {rounds} rounds"
        + (", quick and noisy" if setting["quick"] else ""),
        title_justify="left",
    )
    table.add_column("")
    for title, _ in TITLES.values():
        table.add_column(title, justify="right")
    for row in rows:
        name = f"[bold]{row.name}[/bold]" if row.is_dialocpp else row.name
        table.add_row(name, *(_cell(row, column) for column in TITLES))
    console.print(table)
    console.print(
        "× : how many times better dialocpp is, at int8 for the upper rows and float32 for the lower."
    )
    for row in rows:
        if row.error:
            console.print(f"missing: {row.name}: {row.error}", highlight=False)
    for line in (*_roof_lines(rows, records), *_other_lines(records)):
        console.print(line, highlight=False)


def machine_limit(records: list[dict[str, Any]], variant: str) -> dict[str, float]:
    """Tokens per second if weights came at the measured bandwidth, and sums at the measured peak."""
    roofs = best_roofs(records)
    work = token_work(ModelConfig.from_dict(shape_config(records[0]["shape"])), variant)
    peak = roofs["int8_gop_s" if variant == "int8" else "float32_gop_s"]
    return {
        "decode": roofs["read_gb_s"] * 1e9 / work.bytes_per_step,
        "prefill": 512 * peak * 1e9 / work.prefill_operations(512),
        "decode16": peak * 1e9 / work.decode_operations(64),
    }


def _cell(row: Row, column: str) -> str:
    cell = row.cells.get(column)
    if cell is None:
        return "missing"
    scale = 1e-6 if column == "peak_rss_bytes" else 1
    number = TITLES[column][1]
    text = f"{number.format(cell.best * scale)} ({number.format(cell.median * scale)})"
    return text if cell.ratio is None or row.name == f"dialocpp {row.rival}" else f"{text}  {cell.ratio:.2f}×"


def _roof_lines(rows: list[Row], records: list[dict[str, Any]]) -> list[str]:
    roofs = best_roofs(records)
    if not roofs["read_gb_s"]:
        return []
    lines = [
        f"roofs measured in this run: {roofs['read_gb_s']:.1f} GB/s read, "
        f"{roofs['int8_gop_s']:,.0f} GOP/s int8, {roofs['float32_gop_s']:,.0f} GFLOP/s float32"
    ]
    for row in rows:
        if row.is_dialocpp and row.cells:
            limits = machine_limit(records, row.name.split()[1])
            shares = [
                f"{task} {row.cells[task].best / limit:.0%} of {limit:,.0f}"
                for task, limit in limits.items()
                if limit
            ]
            lines.append(f"{row.name}: {', '.join(shares)} tokens/s (the roof)")
    return lines


def _other_lines(records: list[dict[str, Any]]) -> list[str]:
    lines = []
    for record in records:
        if record.get("chat_ttft_s"):
            second, last = (1e3 * seconds for seconds in record["chat_ttft_s"])
            lines.append(
                f"{record['peer']}, 20-turn chat: first token after {second:.1f} ms in turn 2, "
                f"{last:.1f} ms in turn 20 ({last / second:.2f}×)"
            )
    idle = {r["peer"]: r["idle_cpu_percent"] for r in records if "idle_cpu_percent" in r}
    if idle:
        busy = ", ".join(f"{peer} {percent:.1f} %" for peer, percent in idle.items())
        lines.append(f"CPU one second after the last step: {busy}")
    return lines
