"""Which options do several commands share? Those that choose a model, and GenerationConfig's arguments."""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import click

from dialocpp.checkpoint import Source, load_checkpoint
from dialocpp.checkpoint.packed.pack import DTYPES
from dialocpp.errors import brief
from dialocpp.model import Model
from dialocpp.prompt.formats import AUTO, FORMATS, TEMPLATE

Command = Callable[..., Any]


@dataclass(frozen=True)
class Machine:
    """How a model is run."""

    dtype: str
    num_threads: int | None

    def load(self, name: str | None, source: Source) -> Model:
        return Model(load_checkpoint(replace(source, name=name), dtype=self.dtype), num_threads=self.num_threads)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


# GenerationConfig's argument -> (its command-line type, help). `do_sample` is --greedy and --sample.
_GENERATION: dict[str, tuple[Callable[[str], Any], str]] = {
    "max_new_tokens": (int, "Tokens of a reply at most."),
    "min_new_tokens": (int, "Tokens of a reply at least."),
    "temperature": (float, "Below 1 the model plays safe, above 1 it takes risks."),
    "top_k": (int, "Draw among the k most probable tokens; 0: all."),
    "top_p": (float, "Draw among the most probable tokens that together reach p; 1: all."),
    "min_p": (float, "Draw among tokens at least p times as probable as the most probable one; 0: all."),
    "typical_p": (float, "Draw among the tokens of most typical surprise that together reach p; 1: all."),
    "epsilon_cutoff": (float, "Draw among tokens of at least this probability; 0: all."),
    "eta_cutoff": (float, "The same, lower where the model is unsure; 0: off."),
    "repetition_penalty": (float, "Above 1, tokens that were used become less probable."),
    "presence_penalty": (float, "Above 0, tokens that the reply holds become less probable."),
    "frequency_penalty": (float, "The same, for each time that they occur."),
    "no_repeat_ngram_size": (int, "No group of n tokens twice; 0: off."),
    "bad_words": (_words, "Words that no reply holds, with commas between them."),
}


def source_options(command: Command) -> Command:
    """--revision, --cache-dir, --local-files-only, as an argument `source` that lacks only the name."""

    @click.option("--revision", metavar="NAME", help="Branch, tag or commit on the Hub.")
    @click.option("--cache-dir", type=click.Path(file_okay=False), help="Where downloads are kept.")
    @click.option("--local-files-only", is_flag=True, help="Do not ask the Hub.")
    @functools.wraps(command)
    def with_source(
        *, revision: str | None, cache_dir: str | None, local_files_only: bool, **rest: Any
    ) -> Any:
        return command(source=Source(None, revision, cache_dir, local_files_only), **rest)

    return with_source


def machine_options(command: Command) -> Command:
    """--dtype and --threads, as an argument `machine`."""

    @click.option("--dtype", default="auto", show_default=True, help=f"{', '.join(DTYPES)}, or auto: int8.")
    @click.option("--threads", type=int, metavar="N", help="Threads; by default the physical cores.")
    @functools.wraps(command)
    def with_machine(*, dtype: str, threads: int | None, **rest: Any) -> Any:
        return command(machine=Machine(dtype, threads), **rest)

    return with_machine


def generation_options(command: Command) -> Command:
    """GenerationConfig's arguments, as an argument `generation` that holds those that were given."""

    @functools.wraps(command)
    def with_generation(**arguments: Any) -> Any:
        given = {name: arguments.pop(name) for name in ("do_sample", "seed", *_GENERATION)}
        return command(generation={k: v for k, v in given.items() if v is not None}, **arguments)

    seed = click.option("--seed", type=int, help="The same seed gives the same text.")
    decorated: Command = seed(with_generation)
    for name, (kind, help_) in reversed(_GENERATION.items()):
        decorated = click.option(f"--{name.replace('_', '-')}", name, type=kind, help=help_)(decorated)
    return click.option(
        "--sample/--greedy", "do_sample", default=None, help="Draw tokens, or take the most probable one."
    )(decorated)


def parse_setting(text: str) -> dict[str, Any]:
    """`key=value` as a generation argument; the value is JSON, with true, false and none in any case."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise ValueError(f"expected key=value such as temperature=0.7, found {brief(text)}; type it so")
    words = {"true": True, "false": False, "none": None, "null": None}
    try:
        return {key: words[value.lower()] if value.lower() in words else json.loads(value)}
    except (ValueError, RecursionError):
        raise ValueError(
            f"expected {key if len(key) < 80 else brief(key)} to be a number, true, false, none, or a text or list in "
            f'JSON such as ["Bot:"], found {brief(value)}; type it so'
        ) from None


class ChatFormatName(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic in newer versions of click
    """A chat format by its name, or a function of the user's own as module:function."""

    name = "format"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join((AUTO, *FORMATS, TEMPLATE))}|MODULE:FUNCTION]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        known = (AUTO, *FORMATS, TEMPLATE)
        module, colon, function = value.partition(":")
        if not colon:
            if value not in known:
                self.fail(f"expected one of {', '.join(known)}, or module:function, found {brief(value)}; name one")
            return value
        try:
            found = getattr(_imported(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            self.fail(f"expected a module and a function in it, found {brief(value)} ({error}); check both names")
        if not callable(found):
            self.fail(f"expected a function, found {brief(value)}, which is {type(found).__name__}; name another")
        return found


def _imported(module: str) -> Any:
    """A module, also one of the folder one is in. That comes last: none there takes the place of an installed one."""
    here = os.getcwd()  # noqa: PTH109 - sys.path holds texts
    sys.path.append(here)
    try:
        return importlib.import_module(module)
    finally:
        sys.path.remove(here)
