"""What does one measurement tell, ready for JSON?"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

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


def _rates(
    model: Model, result: Measurement, roofs: Roofs, prefill: Latency | None
) -> dict[str, float]:
    """How near the roofs: GB/s of weights where one row reads them all, GOP/s where many rows share them."""
    work = token_work(model.config, model.dtype)
    rates: dict[str, float] = {}
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


def _arithmetic(name: str, gop_s: float, roofs: Roofs, dtype: str) -> dict[str, float]:
    return {f"{name}_gop_s": gop_s, f"{name}_of_peak": gop_s / roofs.gop_s(dtype)}
