"""`dialocpp eval`: how good is a model, and how good are replies that are already written?"""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from dialocpp.checkpoint import Source
from dialocpp.errors import DialocppError
from dialocpp.evaluation.conversations import read_lines, simulate
from dialocpp.evaluation.dialogue_files import SAMPLE, lines_of, token_ids
from dialocpp.evaluation.libraries import library_measures
from dialocpp.evaluation.meteor import meteor, missing
from dialocpp.evaluation.metrics import Value, evaluated, measures
from dialocpp.evaluation.perplexity import read_texts
from dialocpp.evaluation.table import FORMATS, TABLES, Row, plot, published
from dialocpp.model import Model

from .grading import grade
from .options import Machine, machine_options, source_options
from .output import facts, json_line, notes, write

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("eval")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(exists=True, path_type=Path))
@click.option("-m", "--model", metavar="MODEL", help="Folder or Hub id; by default the bundled demo.")
@click.option("--positions", type=click.IntRange(min=2), metavar="N", help="Read the first N tokens of each text only.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Read the first N texts only.")
@click.option("--conversations", type=click.IntRange(min=1), metavar="N", help="Hold N conversations instead.")
@click.option("--turns", type=click.IntRange(min=1), default=30, show_default=True, help="Of each conversation.")
@click.option("--batch", type=click.IntRange(min=1), default=16, show_default=True, help="Conversations at once.")
@click.option("--candidates", type=click.IntRange(min=1), default=1, show_default=True, help="Drawn for each reply.")
@click.option("--prepare", is_flag=True, help="Read again in idle time, not within the turn.")
@click.option("--compare", is_flag=True, help="The same with 1 and 2 threads, alone and 16 at once.")
@click.option("--against", metavar="MODEL", help="Another model: grade the replies of both by hand, blind.")
@click.option("--grades", type=click.Path(dir_okay=False, path_type=Path), help="For --against: where grades are kept.")
@click.option("--hypotheses", type=_FILE, help="Written replies, one a line: no model is asked.")
@click.option("--references", type=_FILE, multiple=True, help="What was expected, line by line; repeat for several.")
@click.option("--published", "table", type=click.Choice([*TABLES, "none"]), default="6k", show_default=True,
              help="Which rows of DialoGPT's paper to print beside.")  # fmt: skip
@click.option("--samples", type=click.IntRange(min=0), default=1000, show_default=True, help="Bootstrap; 0: no margin.")
@click.option("--no-meteor", is_flag=True, help="Leave METEOR out; it takes half a minute.")
@click.option("--format", "form", type=click.Choice([*FORMATS]), default="text", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
@click.option("--plot", "picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw the table: .png, .svg.")
@machine_options
@source_options
def evaluate(
    files: tuple[Path, ...],
    model: str | None,
    hypotheses: Path | None,
    references: tuple[Path, ...],
    conversations: int | None,
    against: str | None,
    grades: Path | None,
    form: str,
    as_json: bool,
    machine: Machine,
    source: Source,
    **rest: Any,
) -> None:
    """How well does a model foresee FILEs, how well does it talk, and how good are written replies?

    \b
    dialocpp eval FILE...                                perplexity and bits per byte
    dialocpp eval --conversations 1000 FOLDER            replies that are empty or repeat, and what they cost
    dialocpp eval --hypotheses FILE --references FILE    the paper's measures; METEOR needs Java
    dialocpp eval FILE --against MODEL --grades FILE     two models side by side, graded by hand

    FILE is a .jsonl[.xz] of {"turns": [...]}, or one text a line; without one, a small sample is read.
    """
    form = "json" if as_json else form
    if hypotheses is None and references:
        raise click.UsageError("expected --hypotheses with --references, found none; give the replies' file.")
    if hypotheses is not None:
        if files or model or conversations or against:
            raise click.UsageError("expected --hypotheses or a model with its files, found both; give one of them.")
        write(_written(hypotheses, references, form, **rest) + "\n")
    elif against or grades:
        _grade(model, against, source, machine, files, grades, rest["limit"])
    elif conversations:
        _talk(model, source, machine, files, conversations, form == "json", **rest)
    else:
        _foresight(machine.load(model, source), files, form == "json", **rest)


def _written(
    hypotheses: Path,
    references: tuple[Path, ...],
    form: str,
    *,
    table: str,
    samples: int,
    no_meteor: bool,
    picture: Path | None,
    **_: Any,
) -> str:
    said, expected = lines_of(hypotheses), [lines_of(path) for path in references]
    values = {name: evaluated(measure, len(said), samples) for name, measure in measures(said, expected).items()}
    if expected:
        values |= library_measures(said, expected, samples)
        if not no_meteor:
            values |= _meteor(said, expected)
    rows = [*([] if table == "none" else published(table)), Row(hypotheses.name, values)]
    if picture:
        plot(rows, picture)
    return FORMATS[form](rows)


def _meteor(said: list[str], expected: list[list[str]]) -> dict[str, Value]:
    lacking = missing()
    if lacking:
        notes.print(Text(lacking))
        return {}
    return {"METEOR": Value(meteor(said, expected), None)}


def _grade(
    model: str | None,
    against: str | None,
    source: Source,
    machine: Machine,
    files: tuple[Path, ...],
    grades: Path | None,
    limit: int | None,
) -> None:
    if against is None or grades is None or len(files) > 1:
        raise click.UsageError("expected --against MODEL, --grades FILE and at most one file of dialogues.")
    opening = (turns[0] for turns in read_lines(files[0] if files else None) if turns[0].strip())
    messages = dict(enumerate(itertools.islice(opening, limit)))
    names = (model or "the demo model", against)
    grade(machine.load(model, source), machine.load(against, source), names, messages, grades)


def _foresight(
    model: Model, files: tuple[Path, ...], as_json: bool, *, positions: int | None, limit: int | None, **_: Any
) -> None:
    texts = itertools.chain.from_iterable(token_ids(path, model.tokenizer) for path in files or (SAMPLE,))
    found = read_texts(model, itertools.islice(texts, limit), positions)
    pairs: dict[str, float] = {
        "texts": found.texts,
        "tokens": found.tokens,
        "bytes": found.bytes,
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte,
    }
    if as_json:
        json_line(pairs)
    else:
        shown = {name: f"{value:,}" if isinstance(value, int) else f"{value:.4f}" for name, value in pairs.items()}
        facts((name.replace("_", " "), value) for name, value in shown.items())


def _talk(
    name: str | None,
    source: Source,
    machine: Machine,
    files: tuple[Path, ...],
    conversations: int,
    as_json: bool,
    *,
    turns: int,
    batch: int,
    candidates: int,
    prepare: bool,
    compare: bool,
    **_: Any,
) -> None:
    if len(files) > 1:
        raise click.UsageError(f"expected one file or folder of dialogues, found {len(files)}; give one.")
    lines = read_lines(files[0] if files else None)
    ways = itertools.product((1, 2), (1, 16)) if compare else [(machine.num_threads, batch)]
    tallies = []
    for threads, at_once in ways:
        model = replace(machine, num_threads=threads).load(name, source)
        begin = time.perf_counter()
        tally = simulate(model, lines, conversations, turns, at_once, prepare, num_candidates=candidates)
        seconds = time.perf_counter() - begin
        speed = {"seconds": round(seconds, 2), "tokens_per_s": round(tally.generated_tokens / seconds)}
        _show_talk({"threads": model.num_threads, "batch": at_once} | speed | tally.figures(), as_json)
        tallies.append(tally)
    faults = [fault for tally in tallies for fault in tally.faults]
    if len({tally.digest for tally in tallies}) > 1:
        faults.append("threads or batches change what is said")
    if faults:
        raise DialocppError("\n".join([f"{len(faults)} faults; the first ones:", *faults[:20]]))


def _show_talk(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        json_line(figures)
    else:
        facts((name.replace("_", " "), str(value)) for name, value in figures.items())
