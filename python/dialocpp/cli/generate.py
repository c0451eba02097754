"""`dialocpp generate`: how does the model continue these texts?"""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import click

from dialocpp.checkpoint import Source

from .line_input import checked_text, lines
from .options import Machine, generation_options, machine_options, source_options
from .output import json_line, write


@click.command()
@click.argument("prompts", metavar="PROMPT...", nargs=-1)
@click.option("-m", "--model", metavar="MODEL", help="Folder or Hub id; by default the bundled demo.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a prompt, with token ids and timings.")
@generation_options
@machine_options
@source_options
def generate(
    prompts: tuple[str, ...],
    model: str | None,
    as_json: bool,
    generation: dict[str, Any],
    machine: Machine,
    source: Source,
) -> None:
    """Continue each PROMPT, or each line of stdin.

    Greedy unless --sample is given. A prompt is taken as it is: for a reply to a turn, end it with the
    model's end-of-text, as in "How are you?<|endoftext|>". All prompts run together, and each gets what it
    would get alone.
    """
    if not prompts:
        if sys.stdin.isatty():
            raise click.UsageError("Give at least one PROMPT, or prompts on stdin, one a line.")
        prompts = tuple(lines(sys.stdin))
        if not prompts:
            raise ValueError("expected prompts on stdin, one a line, found none; write one")
    prompts = tuple(map(checked_text, prompts))
    loaded = machine.load(model, source)
    for prompt, result in zip(prompts, loaded.generate(list(prompts), **generation), strict=True):
        if as_json:
            json_line({"prompt": prompt} | dataclasses.asdict(result))
        else:
            write(result.text + "\n")
