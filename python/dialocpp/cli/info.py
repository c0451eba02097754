"""`dialocpp info`: what would run here, on which instructions, and what is this model?"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Iterator

import click

from dialocpp import __version__, _core
from dialocpp.checkpoint import Source
from dialocpp.checkpoint.describe import describe
from dialocpp.checkpoint.files import CONFIG, TOKENIZER_FILES
from dialocpp.errors import brief
from dialocpp.model import Model

from .options import Machine, machine_options, source_options
from .output import console, facts, heading, size

_PACKAGES = ("numpy", "safetensors", "tokenizers", "huggingface_hub", "click", "rich")


@click.command()
@click.argument("model", required=False)
@machine_options
@source_options
def info(model: str | None, machine: Machine, source: Source) -> None:
    """Show the CPU, the chosen instruction set and why, and MODEL's facts."""
    chosen = _core.chosen_isa()
    heading("CPU")
    facts(
        [
            ("features", " ".join(_core.cpu_features()) or "none that matter"),
            ("DIALOCPP_ISA", _forced() or "not set"),
        ]
    )
    console.print()
    heading("Instruction sets, in climbing order")
    facts((name, f"{sentence}: {why}") for name, sentence, why in _rungs(chosen))
    console.print()
    heading("Versions")
    facts(
        [
            ("dialocpp", __version__),
            ("python", platform.python_version()),
            *((name, _version(name)) for name in _PACKAGES),
        ]
    )
    loaded = machine.load(model, source)
    console.print()
    heading(f"Model {loaded.name}")
    facts(_model_facts(loaded))


def _version(package: str) -> str:
    """The installed version."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _forced() -> str:
    return os.environ.get("DIALOCPP_ISA", "")


def _rungs(chosen: str) -> Iterator[tuple[str, str, str]]:
    """Name, sentence, and why the rung is chosen or not."""
    for name, sentence, missing in _core.isa_ladder():
        if name == chosen:
            why = (
                "chosen, because DIALOCPP_ISA names it" if _forced() else "chosen, the highest that runs here"
            )
        elif missing:
            why = f"this CPU lacks {', '.join(missing)}"
        else:
            why = (
                f"runs here, but DIALOCPP_ISA names {chosen}"
                if _forced()
                else f"runs here, but {chosen} is higher"
            )
        yield name, sentence, why


def _model_facts(model: Model) -> Iterator[tuple[str, object]]:
    config = model.config
    parameters = sum(math.prod(spec.shape) for spec in _core.tensor_table(config.to_core()))
    head = "tied to the embedding" if config.tie_word_embeddings else "its own"
    if config.num_labels:
        head = f"a score of {config.num_labels} label{'s' if config.num_labels > 1 else ''}"
        yield "task", "reranker: it ranks replies and writes none"
    yield (
        "architecture",
        (
            f"GPT-2, {config.n_layer} layers, {config.n_embd} channels, {config.n_head} heads, "
            f"{config.n_inner} inner, {config.activation_function}, head {head}"
        ),
    )
    yield "parameters", f"{parameters:,}"
    yield "dtype", model.dtype
    yield "weights in memory", size(model.weight_bytes)
    yield "window", f"{config.n_positions} tokens"
    yield "vocabulary", f"{config.vocab_size:,} rows, tokenizer of {model.tokenizer.vocab_size:,} tokens"
    yield "end-of-text", ", ".join(map(str, model.eos_token_ids))
    says = model.generation_defaults.says
    yield "generation config", ", ".join(f"{name}={brief(value)}" for name, value in says.items()) or "nothing"
    for problem in model.generation_defaults.problems:
        yield "  left out", problem
    yield "threads", f"{model.num_threads} (default here {_core.default_num_threads()})"
    yield "folder", model.folder
    yield from describe(model.folder)
    for path in sorted(model.folder.iterdir()):
        if path.name in (CONFIG, *TOKENIZER_FILES) or path.suffix == ".safetensors":
            yield "  file", f"{path.name}, {size(path.stat().st_size)}"
