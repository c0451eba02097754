"""Which of a GPT-2's tensors does a stored name stand for, whatever a training has put around it?

Trainings wrap a model in others, and each wrapper leaves a prefix: `module.`, `base_model.model.`, `pretrained_model.`,
`_orig_mod.`. A name that begins with an underscore is always a wrapper's, also in the middle (`h.0._orig_mod.ln_1`); of
the others, whatever stands before the position table is a prefix, and is taken off all names alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from dialocpp.errors import CheckpointError, brief

_WRAPPER = re.compile(r"(?:^|(?<=\.))_\w+\.")
_BODY = "transformer."
# Microsoft's own .pkl files nest the head.
_NESTED_HEAD, _HEAD = "lm_head.decoder.weight", "lm_head.weight"

_PART = r"(?:ln_1|ln_2|attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.(?:weight|bias)"
_NEEDED = re.compile(rf"(?:wte|wpe|lm_head|score)\.weight|ln_f\.(?:weight|bias)|h\.\d+\.{_PART}")
# By these a prefix is found; the embedding is not the first, for a tied model may store it as its head only.
_ANCHORS = ("wpe.weight", "ln_f.weight", "wte.weight", "h.0.ln_1.weight")

# Causal masks, which some versions of transformers stored as weights in whatever type was at hand, and the second head
# of GPT2DoubleHeadsModel: neither takes part in the next token's probability.
_NOT_NEEDED = re.compile(r"h\.\d+\.attn\.(?:bias|masked_bias)|multiple_choice_head\..*")
# What stands inside of the model changes what it computes: an adapter, one more layer, a bias of the head.
_INSIDE = re.compile(r"(?:h\.\d+|wte|wpe|ln_f|lm_head)\..*")


def plain_names(stored: Iterable[str]) -> dict[str, str]:
    """Stored name -> the core's name for it; of what is no GPT-2's, the name without the common prefix.

    CheckpointError where several GPT-2s lie side by side.
    """
    bare = {name: _WRAPPER.sub("", name) for name in stored}
    prefixes = _prefixes(bare.values())
    return {name: _plain(without, prefixes) for name, without in bare.items()}


def is_needless(plain: str) -> bool:
    """Whether every GPT-2 may have it, and none needs it."""
    return _NOT_NEEDED.fullmatch(plain) is not None


def is_inside(plain: str) -> bool:
    """Whether a tensor of this name takes part in what a GPT-2 computes."""
    return _INSIDE.fullmatch(plain) is not None


def _prefixes(names: Iterable[str]) -> list[str]:
    """The body's prefix, then all that stand around it, to none at all: a head lies further out than its body."""
    names = list(names)
    for anchor in _ANCHORS:
        found = {name.removesuffix(anchor) for name in names if f".{name}".endswith(f".{anchor}")}
        if found:
            break
    else:
        return [_BODY, ""]
    roots = {prefix.removesuffix(_BODY) if f".{prefix}".endswith(f".{_BODY}") else prefix for prefix in found}
    if len(roots) > 1 and "" not in roots:
        shown = ", ".join(map(brief, sorted(roots)[:4]))
        raise CheckpointError(
            f"expected the tensors of one GPT-2, found those of {len(roots)}, under {shown}; save one of them alone"
        )
    root = "" if "" in roots else next(iter(roots))
    parts = root.split(".")[:-1]
    around = [".".join(parts[:count]) + "." if count else "" for count in range(len(parts), -1, -1)]
    return [root + _BODY, *around]


def _plain(name: str, prefixes: list[str]) -> str:
    rests = [name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)]
    for rest in rests:
        if rest == _NESTED_HEAD:
            return _HEAD
        if _NEEDED.fullmatch(rest) or _NOT_NEEDED.fullmatch(rest) or _INSIDE.fullmatch(rest):
            return rest
    return rests[0]
