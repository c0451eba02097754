"""`dialocpp quantize`: what does a model weigh in int8, and what does that cost in quality?"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from dialocpp.checkpoint import Source, export_checkpoint
from dialocpp.decoding.generation_config import GenerationConfig
from dialocpp.evaluation.dialogue_files import SAMPLE, token_ids
from dialocpp.evaluation.quantisation import Quality, compare
from dialocpp.model import Model
from dialocpp.text.tokenizer import Tokenizer

from .options import Machine, source_options
from .output import console, facts, heading, size, write

_SPEED_TOKENS = 64
_SPEED_RUNS = 3


@click.command()
@click.argument("model")
@click.option(
    "-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write."
)
@click.option("--report", is_flag=True, help="Compare with float32: quality, size, speed.")
@click.option(
    "--text",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='For --report: a .jsonl[.xz] of {"turns": [...]}, or one text a line; repeat for several.',
)
@click.option(
    "--limit", type=click.IntRange(min=1), metavar="N", help="For --report: the first N texts only."
)
@click.option(
    "--threads", type=int, metavar="N", help="For --report: threads; by default the physical cores."
)
@source_options
def quantize(
    model: str,
    out: Path,
    report: bool,
    files: tuple[Path, ...],
    limit: int | None,
    threads: int | None,
    source: Source,
) -> None:
    """Write MODEL as int8 to a folder.

    The file is mapped into memory and used as it lies. The folder is a MODEL for every other command.
    """
    if (files or limit or threads) and not report:
        raise click.UsageError("--text, --limit and --threads belong to --report.")
    folder = export_checkpoint(replace(source, name=model), out)
    total = sum(path.stat().st_size for path in folder.iterdir())
    write(f"{folder} holds {model} as int8, {size(total)} in all; use it by: dialocpp chat {folder}\n")
    if report:
        console.print()
        _report(model, folder, files, limit, threads, source)


def _report(
    name: str, folder: Path, files: tuple[Path, ...], limit: int | None, threads: int | None, source: Source
) -> None:
    reference, reference_load = _timed_load(name, "float32", threads, source)
    candidate, candidate_load = _timed_load(str(folder), "int8", threads, source)
    texts = itertools.islice(_texts(files or (SAMPLE,), reference.tokenizer), limit)
    quality = compare(reference, candidate, texts)
    heading(
        f"{quality.texts} texts, {quality.positions:,} positions"
        + ("" if files else ", from the bundled sample")
    )
    facts(_quality_facts(quality))
    console.print()
    heading(f"Size and speed, {reference.num_threads} threads")
    pairs = [
        ("weights", size(reference.weight_bytes), size(candidate.weight_bytes)),
        ("load", f"{1000 * reference_load:.0f} ms", f"{1000 * candidate_load:.0f} ms"),
        ("decode", f"{_speed(reference):.0f} tokens/s", f"{_speed(candidate):.0f} tokens/s"),
    ]
    facts((what, f"float32 {before}, int8 {after}") for what, before, after in pairs)


def _timed_load(name: str, dtype: str, threads: int | None, source: Source) -> tuple[Model, float]:
    begin = time.perf_counter()
    model = Machine(dtype, threads).load(name, source)
    return model, time.perf_counter() - begin


def _texts(files: tuple[Path, ...], tokenizer: Tokenizer) -> Iterator[list[int]]:
    return itertools.chain.from_iterable(token_ids(path, tokenizer) for path in files)


def _quality_facts(quality: Quality) -> Iterator[tuple[str, str]]:
    yield "perplexity, float32", f"{quality.reference_perplexity:.4f}"
    yield "perplexity, int8", f"{quality.perplexity:.4f} ({quality.relative_difference:+.3%})"
    yield "mean KL", f"{quality.mean_kl:.6f} nats"
    yield "top-1 agreement", f"{quality.top1_agreement:.3%}"


def _speed(model: Model) -> float:
    """Tokens a second after the first one, of one sequence; the best of a few runs."""
    tokens = min(_SPEED_TOKENS, model.config.n_positions - 1)
    prompt = [model.tokenizer.eos_token_id]
    config = GenerationConfig(max_new_tokens=tokens, min_new_tokens=tokens)
    runs = (model.generate(prompt, config)[0] for _ in range(_SPEED_RUNS))
    return max(run.timings.tokens_per_second(len(run.token_ids)) for run in runs)
