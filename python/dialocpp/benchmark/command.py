"""`dialocpp bench`: how fast is a model on this machine?"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from dialocpp.checkpoint import export_checkpoint
from dialocpp.model import Model

from .machine import peak_rss_bytes
from .measure import Chat, Latency, Throughput, measure_chat, measure_latency, measure_throughput
from .random_model import SHAPES, write_random_model
from .report import report, show
from .roofs import measure_roofs

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
            click.echo(json.dumps(content))
        else:
            show(content, Console())


def _model_options(command: Command) -> Command:
    options = [
        click.argument("model", required=False),
        click.option("--shape", type=click.Choice(list(SHAPES)), help="Random weights instead."),
        click.option("--dtype", default="auto", show_default=True, help="float32, int8, ..."),
        click.option("--threads", type=click.IntRange(1), help="Default: the physical cores."),
        click.option("--runs", type=click.IntRange(1), default=5, show_default=True, help="Measured runs."),
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
@click.option("--prompt-tokens", type=click.IntRange(1), default=32, show_default=True)
@click.option("--new-tokens", type=click.IntRange(2), default=128, show_default=True)
@click.option("--prefill-tokens", type=click.IntRange(1), default=512, show_default=True)
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
@click.option("--sequences", type=click.IntRange(1), default=16, show_default=True)
@click.option("--prompt-tokens", type=click.IntRange(1), default=32, show_default=True)
@click.option("--new-tokens", type=click.IntRange(2), default=64, show_default=True)
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
@click.option("--turns", type=click.IntRange(3), default=20, show_default=True)
@click.option("--message-tokens", type=click.IntRange(1), default=12, show_default=True)
@click.option("--reply-tokens", type=click.IntRange(2), default=20, show_default=True)
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
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dialocpp"
    source = cache / f"random-{shape}"
    if not (source / "model.safetensors").is_file():
        write_random_model(source, shape)
    kept = "int8" if dtype == "auto" else dtype
    packed = cache / f"random-{shape}-{kept}"
    if not (packed / "model.dialocpp.safetensors").is_file():
        export_checkpoint(source, packed, dtype=kept)
    return packed
