"""`dialocpp bench`: how fast is a model on this machine?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from dialocpp.benchmark.machine import peak_rss_bytes
from dialocpp.benchmark.measure import (
    Chat,
    Latency,
    Throughput,
    measure_chat,
    measure_latency,
    measure_throughput,
)
from dialocpp.benchmark.random_model import SHAPES, write_random_model
from dialocpp.benchmark.report import report
from dialocpp.benchmark.roofs import measure_roofs
from dialocpp.checkpoint import export_checkpoint
from dialocpp.checkpoint.own_files.user_cache import cache_root
from dialocpp.model import Model

from .output import console, json_line

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class _Setting:
    """What all benchmarks share."""

    model: Model
    as_json: bool

    def finish(self, kind: str, result: Latency | Throughput | Chat, prefill: Latency | None = None) -> None:
        """Print it beside the roofs."""
        peak_rss = peak_rss_bytes()  # before the roofs, which need memory of their own
        roofs = measure_roofs(self.model.num_threads)
        content = report(kind, self.model, result, roofs, peak_rss, prefill)
        if self.as_json:
            json_line(content)
        else:
            show(content, console)


def _model_options(command: Command) -> Command:
    options = [
        click.argument("model", required=False),
        click.option("--shape", type=click.Choice(list(SHAPES)), help="Random weights instead."),
        click.option("--dtype", default="auto", show_default=True, help="float32, int8, ..."),
        click.option("--threads", type=click.IntRange(1, 1024), help="Default: the physical cores."),
        click.option("--runs", type=click.IntRange(1, 10_000), default=5, show_default=True, help="Measured runs."),
        click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group()
def bench() -> None:
    """Measure speed and memory beside what this machine could do at best.

    MODEL is a folder or a Hub id; without it the bundled model is measured.
    """


@bench.command()
@_model_options
@click.option("--prompt-tokens", type=click.IntRange(1, 1 << 20), default=32, show_default=True)
@click.option("--new-tokens", type=click.IntRange(2, 1 << 20), default=128, show_default=True)
@click.option("--prefill-tokens", type=click.IntRange(1, 1 << 20), default=512, show_default=True)
def latency(
    prompt_tokens: int, new_tokens: int, prefill_tokens: int, runs: int, as_json: bool, **model: Any
) -> None:
    """One sequence alone: time to first token, time per token, and the reading of a long prompt."""
    setting = _Setting(_load(**model), as_json)
    # A small model's window may be shorter than the long prompt.
    longest = min(prefill_tokens, setting.model.config.n_positions - 2)
    result = measure_latency(setting.model, prompt_tokens=prompt_tokens, new_tokens=new_tokens, runs=runs)
    prefill = measure_latency(setting.model, prompt_tokens=longest, new_tokens=2, runs=runs)
    setting.finish("latency", result, prefill)


@bench.command()
@_model_options
@click.option("--sequences", type=click.IntRange(1, 4096), default=16, show_default=True)
@click.option("--prompt-tokens", type=click.IntRange(1, 1 << 20), default=32, show_default=True)
@click.option("--new-tokens", type=click.IntRange(2, 1 << 20), default=64, show_default=True)
def throughput(
    sequences: int, prompt_tokens: int, new_tokens: int, runs: int, as_json: bool, **model: Any
) -> None:
    """Many sequences at once: the tokens per second of all together."""
    setting = _Setting(_load(**model), as_json)
    result = measure_throughput(
        setting.model, sequences=sequences, prompt_tokens=prompt_tokens, new_tokens=new_tokens, runs=runs
    )
    setting.finish("throughput", result)


@bench.command()
@_model_options
@click.option("--turns", type=click.IntRange(3, 10_000), default=20, show_default=True)
@click.option("--message-tokens", type=click.IntRange(1, 1 << 20), default=12, show_default=True)
@click.option("--reply-tokens", type=click.IntRange(2, 1 << 20), default=20, show_default=True)
def chat(turns: int, message_tokens: int, reply_tokens: int, runs: int, as_json: bool, **model: Any) -> None:
    """One long conversation: does the time to the first token grow with its turns?"""
    setting = _Setting(_load(**model), as_json)
    result = measure_chat(
        setting.model, turns=turns, message_tokens=message_tokens, reply_tokens=reply_tokens, runs=runs
    )
    setting.finish("chat", result)


def _load(model: str | None, shape: str | None, dtype: str, threads: int | None) -> Model:
    if model is not None and shape is not None:
        raise click.UsageError("expected a model or --shape, found both; give one of them")
    name = str(random_model(shape, dtype)) if shape else model
    return Model.from_pretrained(name, dtype=dtype, num_threads=threads)


def random_model(shape: str, dtype: str) -> Path:
    """The folder of a random model, packed as `dtype`; made on the first use and kept in the user's cache."""
    cache = cache_root()
    source = cache / f"random-{shape}"
    if not (source / "model.safetensors").is_file():
        write_random_model(source, shape)
    kept = "int8" if dtype == "auto" else dtype
    packed = cache / f"random-{shape}-{kept}"
    if not (packed / "model.dialocpp.safetensors").is_file():
        export_checkpoint(source, packed, dtype=kept)
    return packed


def show(content: dict[str, Any], console: Console) -> None:
    """A measurement for people."""
    model, where = content["model"], content["machine"]
    title = f"{content['benchmark']}: {model['name']}, {model['dtype']}, {content['threads']} threads"
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in _rows(content):
        table.add_row(name, value)
    console.print(table)
    console.print(f"{where['cpu']}, {where['isa']}; logits {model['logits_sha256'][:16]}", highlight=False)


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
