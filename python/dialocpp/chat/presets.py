"""Which ways of decoding have a name? One row each: what others published, and this library's own."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import Any

from dialocpp.decoding.generation_config import CHAT, GREEDY, GenerationConfig, override


@dataclass(frozen=True)
class Preset:
    """A row: generation arguments on top of plain greedy decoding, candidates for each reply, and what it needs."""

    help: str
    generation: dict[str, Any] = field(default_factory=dict)
    num_candidates: int = 1
    needs_reverse: bool = False

    @property
    def generation_config(self) -> GenerationConfig:
        """The row's arguments as a config."""
        return override(GREEDY, self.generation)


DEFAULT, BY_REVERSE = "default", "paper-mmi"

PRESETS = {
    DEFAULT: Preset("this library's own: sampling that does not loop", dataclasses.asdict(CHAT)),
    # The card's max_length of 1000 counts the prompt; here the model's positions end a reply that long.
    "model-card": Preset("microsoft/DialoGPT's card: greedy, nothing altered", {"max_new_tokens": 1000}),
    "paddle": Preset("PaddleNLP's demo", {"do_sample": True, "top_k": 5, "max_new_tokens": 32}),
    # At least a token: the most probable reply of all is often to say nothing.
    "paper-beam": Preset("the paper's beam search (arXiv:1911.00536)", {"num_beams": 10, "min_new_tokens": 1}),
    BY_REVERSE: Preset(
        "the paper's 16 samples, ranked by a reverse model (arXiv:1911.00536)",
        {"do_sample": True, "top_k": 10},
        num_candidates=16,
        needs_reverse=True,
    ),
    # configs/medium-cpu.cfg of polakowo/gpt2bot.
    "gpt2bot": Preset(
        "polakowo/gpt2bot's settings", {"do_sample": True, "top_k": 40, "top_p": 0.9, "min_new_tokens": 1}
    ),
}


def preset_named(name: str) -> Preset:
    """The row of that name; ValueError names the nearest one."""
    if name not in PRESETS:
        near = difflib.get_close_matches(str(name), PRESETS, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else "name one of them"
        raise ValueError(f"expected a preset of {', '.join(PRESETS)}, found {name!r}; {hint}")
    return PRESETS[name]
