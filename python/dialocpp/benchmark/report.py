"""What does a measurement look like, as JSON and as a table?"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from rich.console import Console
from rich.table import Table

from dialocpp.model import Model

from .machine import describe_model, machine
from .measure import Chat, Latency, Throughput
from .roofs import Roofs
from .work import token_work

Measurement = Latency | Throughput | Chat


def report(
    kind: str, model: Model, result: Measurement, roofs: Roofs, peak_rss: int, prefill: Latency | None = None
) -> dict[str, Any]:
    """All of one measurement, ready for json.dumps; `prefill` is the latency of a long prompt."""
    content = {
        "benchmark": kind,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "threads": model.num_threads,
        "model": describe_model(model),
        "result": asdict(result),
        "rates": _rates(model, result, roofs, prefill),
        "roofs": asdict(roofs),
        "peak_rss_bytes": peak_rss,
    }
    return content | ({"prefill": asdict(prefill)} if prefill else {})


def show(content: dict[str, Any], console: Console) -> None:
    """The same for people."""
    model, where = content["model"], content["machine"]
    title = f"{content['benchmark']}: {model['name']}, {model['dtype']}, {content['threads']} threads"
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in _rows(content):
        table.add_row(name, value)
    console.print(table)
    console.print(f"{where['cpu']}, {where['isa']}; logits {model['logits_sha256'][:16]}", highlight=False)


def _rates(
    model: Model, result: Measurement, roofs: Roofs, prefill: Latency | None
) -> dict[str, float | None]:
    """How near the roofs: GB/s of weights where one row reads them all, GOP/s where many rows share them."""
    work = token_work(model.config, model.dtype)
    rates: dict[str, float | None] = {}
    # Many sequences read the weights once a step for all of them.
    sequences = result.sequences if isinstance(result, Throughput) else 1
    read = result.decode_tokens_per_s / sequences * work.bytes_per_step / 1e9
    rates |= {"decode_gb_s": read, "decode_of_read_roof": read / roofs.read_gb_s}
    if isinstance(result, Throughput):
        operations = work.decode_operations(result.prompt_tokens + result.new_tokens // 2)
        rates |= _arithmetic("decode", result.decode_tokens_per_s * operations / 1e9, roofs, model.dtype)
    if prefill:
        seconds = prefill.ttft_ms / 1e3
        operations = work.prefill_operations(prefill.prompt_tokens)
        rates |= _arithmetic("prefill", operations / seconds / 1e9, roofs, model.dtype)
    return rates


def _arithmetic(name: str, gop_s: float, roofs: Roofs, dtype: str) -> dict[str, float | None]:
    peak = roofs.gop_s(dtype)
    return {f"{name}_gop_s": gop_s, f"{name}_of_peak": gop_s / peak if peak else None}


def _rows(content: dict[str, Any]) -> list[tuple[str, str]]:
    result, rates, prefill = content["result"], content["rates"], content.get("prefill")
    rows = [(label, unit.format(result[key])) for key, (label, unit) in _LABELS.items() if key in result]
    if prefill:
        rows.append(
            (f"prefill of {prefill['prompt_tokens']}", f"{prefill['prefill_tokens_per_s']:,.0f} tokens/s")
        )
    rows.append(
        ("weights read", _beside(rates, "decode_gb_s", "decode_of_read_roof", "GB/s", "read bandwidth"))
    )
    rows += [
        (f"{kind} arithmetic", _beside(rates, f"{kind}_gop_s", f"{kind}_of_peak", "GOP/s", "peak"))
        for kind in ("decode", "prefill")
        if f"{kind}_gop_s" in rates
    ]
    rows.append(("peak RSS", f"{content['peak_rss_bytes'] / 1e6:,.0f} MB"))
    return rows


_LABELS = {
    "turns": ("turns", "{}"),
    "sequences": ("sequences at once", "{}"),
    "prompt_tokens": ("prompt", "{} tokens"),
    "new_tokens": ("reply", "{} tokens"),
    "history_tokens": ("history at the end", "{} tokens"),
    "dropped_turns": ("turns dropped", "{}"),
    "decode_tokens_per_s": ("decode", "{:,.1f} tokens/s"),
    "total_tokens_per_s": ("with the prompts", "{:,.1f} tokens/s"),
    "ms_per_token_p50": ("time per token, p50", "{:.2f} ms"),
    "ms_per_token_p90": ("time per token, p90", "{:.2f} ms"),
    "ms_per_token_p99": ("time per token, p99", "{:.2f} ms"),
    "last_to_second": ("TTFT of the last turn ÷ the second's", "{:.2f}"),
}


def _beside(rates: dict[str, float | None], rate: str, share: str, unit: str, roof: str) -> str:
    part = rates[share]
    return f"{rates[rate]:,.1f} {unit}" + (f" = {part:.0%} of {roof}" if part is not None else "")
