"""`dialocpp train`: better weights from one's own dialogues."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dialocpp.checkpoint import Source
from dialocpp.checkpoint.resolve import resolve

from .options import source_options
from .output import console, notes

_MISSING = 'expected torch, transformers and accelerate, found no {}; pip install "dialocpp[train]"'


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE[=WEIGHT]…")
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write.")
@click.option("-m", "--model", help="Fine-tune this model: a folder or a Hub id with float weights.")
@click.option("--shape", metavar="NAME", help="Start from random weights: tiny, demo, small, medium or large.")
@click.option("--vocab-size", type=click.IntRange(min=300), help="Of the tokenizer that is trained with --shape.")
@click.option("--epochs", type=click.FloatRange(min=0, min_open=True), help="How often the data is read.  [3]")
@click.option("--steps", type=click.IntRange(min=1), help="Updates, instead of --epochs.")
@click.option("--valid", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Held-out dialogues.")
@click.option("--valid-share", type=click.FloatRange(0, 0.5), default=0.02, show_default=True, help="Or this share.")
@click.option("--reverse", is_flag=True, help="Learn P(source | reply), for ranking by mutual information.")
@click.option("--replies-only", is_flag=True, help="Learn every second turn, the answers.")
@click.option("--context", type=click.IntRange(min=8), default=256, show_default=True, help="Tokens seen at once.")
@click.option("--batch-tokens", type=click.IntRange(min=8), default=8192, show_default=True, help="Of one update.")
@click.option("--accumulate", type=click.IntRange(min=1), default=1, help="Parts of an update, to save memory.")
@click.option("--learning-rate", type=float, default=3e-4, show_default=True)
@click.option("--schedule", type=click.Choice(["cosine", "wsd"]), default="cosine", show_default=True)
@click.option("--optimiser", type=click.Choice(["adamw", "muon"]), default="adamw", show_default=True)
@click.option("--ema", type=float, default=0.0, help="Keep the average of the weights with this decay.")
@click.option("--dropout", type=float, default=0.0, show_default=True)
@click.option("--patience", type=click.IntRange(min=0), default=0, help="Evaluations without a better one: end.")
@click.option("--evaluate-every", type=click.IntRange(min=1), default=200, show_default=True, metavar="STEPS")
@click.option("--save-every", type=click.IntRange(min=1), default=200, show_default=True, metavar="STEPS")
@click.option("--precision", type=click.Choice(["auto", "float32", "bf16"]), default="auto", show_default=True)
@click.option("--gradient-checkpointing", is_flag=True, help="Less memory, more time.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--strict", is_flag=True, help="A bad line is an error; by default it is counted and left out.")
@click.option("--licence", help="Of the data and the weights, for the model card.")
@click.option("--restart", is_flag=True, help="Forget an unfinished run in the folder.")
@source_options
def train(
    files: tuple[str, ...],
    out: Path,
    model: str | None,
    shape: str | None,
    vocab_size: int | None,
    epochs: float | None,
    valid: Path | None,
    valid_share: float,
    reverse: bool,
    replies_only: bool,
    strict: bool,
    licence: str | None,
    restart: bool,
    source: Source,
    **numbers: Any,
) -> None:
    """Train on FILES of dialogues and write a model to a folder.

    A file is .jsonl ({"turns": [...]}), DialoGPT's .tsv, a chat export as .csv (speaker, text) or .txt (a turn a line,
    dialogues separated by empty lines), each also .xz; FILE=2 reads it twice in every epoch. A run that was killed
    goes on when the same command is given again. Several machines: `accelerate launch -m dialocpp train …`.
    """
    try:
        from dialocpp.evaluation.dialogue_formats import BadLines
        from dialocpp.training.finetune import Data, Run, finetune
        from dialocpp.training.plan import Plan
    except ImportError as error:
        raise click.ClickException(_MISSING.format(error.name)) from None
    if (model is None) == (shape is None):
        raise click.UsageError("Give either --model to fine-tune or --shape for a new one.")
    if epochs is not None and numbers["steps"] is not None:
        raise click.UsageError("Give --epochs or --steps, not both.")
    if numbers["steps"] is None:
        epochs = 3.0 if epochs is None else epochs
        numbers["steps"] = 1  # set by the epochs, once the data was read
    plan = Plan(**numbers)
    data = Data([_weighed(file) for file in files], valid, valid_share, BadLines(strict=strict))
    base = resolve(replace(source, name=model)) if model is not None else None
    run = Run(out, data, base, shape, vocab_size, epochs, reverse, replies_only, licence, restart)
    with _Bar() as bar:
        finished = finetune(run, plan, bar.show)
    _tell(finished, data.bad, out)


def _weighed(text: str) -> tuple[Path, float]:
    name, separator, weight = text.rpartition("=")
    if not separator:
        name, weight = text, "1"
    try:
        value = float(weight)
    except ValueError:
        name, value = text, 1.0
    if not 0 <= value < 1e6:
        raise click.UsageError(f"expected a weight from 0 to a million, found {weight} in {text}")
    if not Path(name).is_file():
        raise click.UsageError(f"expected a file of dialogues, found no file {name}")
    return Path(name), value


class _Bar:
    """Loss, speed and the time that is left."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.completed}/{task.total}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]:.3f}, held out {task.fields[valid]}"),
            TextColumn("{task.fields[speed]:,.0f} tokens/s"),
            TimeRemainingColumn(),
            console=notes,
        )
        self._task = self._progress.add_task("", total=None, loss=float("nan"), valid="–", speed=0.0)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def show(self, progress: Any) -> None:
        valid = f"{progress.points[-1].valid_loss:.3f}" if progress.points else "–"
        self._progress.update(
            self._task,
            total=progress.steps,
            completed=progress.step,
            loss=progress.loss,
            valid=valid,
            speed=progress.tokens_per_s,
        )


def _tell(finished: Any, bad: Any, out: Path) -> None:
    outcome, screen = finished.outcome, console
    if bad.count:
        screen.print(f"{bad.count} bad lines were left out; the first ones:", markup=False)
        for line in bad.first:
            screen.print(f"  {line}", markup=False, highlight=False)
    for message, reply in finished.replies:
        screen.print(f"> {message}\n  {reply}", markup=False, highlight=False)
    screen.print(
        f"perplexity per token, held out: {outcome.before:.2f} before, {outcome.after:.2f} after "
        f"{outcome.steps} updates\n"
        f"{out}: a model for dialocpp and transformers, with its card and its training curve",
        markup=False,
        highlight=False,
    )
