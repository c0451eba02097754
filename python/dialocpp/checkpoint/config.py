"""What does a config.json say: is it a GPT-2 that the core can run, and with which numbers?"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dialocpp import _core
from dialocpp.errors import CheckpointError, brief

from .json_file import read_json_object

# name -> (transformers' default, largest sensible value). The limits are far above any GPT-2; they stop a
# damaged file before something of that size is allocated.
_SIZES: dict[str, tuple[int, int]] = {
    "vocab_size": (50257, 1 << 24),
    "n_positions": (1024, 1 << 20),
    "n_embd": (768, 1 << 16),
    "n_layer": (12, 1 << 10),
    "n_head": (12, 1 << 10),
}
_MAX_INNER = 1 << 16
_MAX_BYTES = 8 << 20  # of the file: labels and their names are the most that it could hold

# The second names that transformers accepts for a GPT-2.
_ALIASES = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}

_FLAGS = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "tie_word_embeddings": True}

_END_OF_TEXT = 50256

_CLASSIFIER = "GPT2ForSequenceClassification"
_LANGUAGE_MODEL = "GPT2LMHeadModel"
# The framework in which a model was saved does not matter.
_FRAMEWORKS = re.compile("^(?:TF|Flax)")
# What a wrapper writes in the place of the model's own class says nothing of the family.
_WRAPPERS = re.compile("^(?:Auto|Peft|Optimized|Distributed|FullySharded|Compiled)")
# Names that transformers gives to classes of models.
_CLASS = re.compile(r"[A-Z]\w*(?:Model|LMHead|For[A-Z]\w*)")

_DEFAULT_LABELS = 2  # transformers', of a classifier whose config does not say
_MAX_LABELS = 1 << 16

# A key that changes what the model computes -> why a config that sets it is refused.
_FOREIGN_FLAGS = {
    "is_encoder_decoder": "an encoder-decoder model",
    "add_cross_attention": "a GPT-2 with cross-attention to an encoder",
    "quantization_config": "weights quantised by another tool",
}

_ADVICE = "use the config.json that belongs to the weights"


@dataclass(frozen=True)
class ModelConfig:
    """The numbers of one GPT-2, under Hugging Face's names; defaults are transformers' own.

    `reorder_and_upcast_attn` is accepted and not kept: it only matters to attention in half precision.
    `eos_token_ids` holds only ids inside the vocabulary (some checkpoints name 50256 with 13,317 tokens).
    `num_labels` is 0 for a language model; a classifier, such as the reranker DialogRPT, has so many logits
    instead of the vocabulary's.
    """

    vocab_size: int
    n_positions: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int
    activation_function: str
    layer_norm_epsilon: float
    scale_attn_weights: bool
    scale_attn_by_inverse_layer_idx: bool
    tie_word_embeddings: bool
    bos_token_id: int | None
    eos_token_ids: tuple[int, ...]
    num_labels: int = 0

    @classmethod
    def from_file(cls, path: Path) -> ModelConfig:
        """Read a config.json; CheckpointError says what in it is wrong."""
        return cls.from_dict(read_json_object(path, _MAX_BYTES), source=str(path))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], source: str = "config.json") -> ModelConfig:
        """Parse the content of a config.json; `source` names it in errors (CheckpointError)."""
        _refuse_other_models(values, source)
        renamed = {_ALIASES[key]: value for key, value in values.items() if key in _ALIASES}
        values = renamed | dict(values)
        fields: dict[str, Any] = {
            name: _size(values.get(name, default), name, limit, source) for name, (default, limit) in _SIZES.items()
        }
        if fields["n_embd"] % fields["n_head"]:
            expected = f"n_embd to be a multiple of n_head {fields['n_head']}"
            raise _wrong(source, expected, str(fields["n_embd"]))
        inner = values.get("n_inner")
        fields |= {
            "n_inner": 4 * fields["n_embd"] if inner is None else _size(inner, "n_inner", _MAX_INNER, source),
            "activation_function": _activation(values.get("activation_function", "gelu_new"), source),
            "layer_norm_epsilon": _epsilon(values.get("layer_norm_epsilon", 1e-5), source),
        }
        fields |= {name: _flag(values.get(name, default), name, source) for name, default in _FLAGS.items()}
        bos, eos = (
            _token_ids(values.get(name, _END_OF_TEXT), name, fields["vocab_size"], source)
            for name in ("bos_token_id", "eos_token_id")
        )
        labels = _num_labels(values, source)
        return cls(**fields, bos_token_id=next(iter(bos), None), eos_token_ids=eos, num_labels=labels)

    @property
    def eos_token_id(self) -> int | None:
        """The first end-of-text id, if the config names one inside the vocabulary."""
        return next(iter(self.eos_token_ids), None)

    def architecture(self) -> dict[str, Any]:
        """Every field but the token ids: what the weights depend on, and the arguments of `_core.Config`.

        A language model has no `num_labels`: what was noted of one before there were classifiers stays true.
        """
        left_out = ("bos_token_id", "eos_token_ids") + (() if self.num_labels else ("num_labels",))
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    def to_core(self) -> _core.Config:
        """The same numbers for the core; CheckpointError if it finds that they do not fit together."""
        try:
            return _core.Config(**self.architecture())
        except ValueError as error:
            expected = "expected numbers in config.json that fit together"
            raise CheckpointError(f"{expected}, found {error}; {_ADVICE}") from error

    def to_dict(self) -> dict[str, Any]:
        """The content of a config.json from which `from_dict` makes this config again."""
        eos = list(self.eos_token_ids) if len(self.eos_token_ids) > 1 else self.eos_token_id
        ids = {"bos_token_id": self.bos_token_id, "eos_token_id": eos}
        name = _CLASSIFIER if self.num_labels else _LANGUAGE_MODEL
        return {"model_type": "gpt2", "architectures": [name]} | self.architecture() | ids


def _wrong(source: str, expected: str, found: str) -> CheckpointError:
    return CheckpointError(f"{source}: expected {expected}, found {found}; {_ADVICE}")


def _refuse_other_models(values: Mapping[str, Any], source: str) -> None:
    """CheckpointError, by name, for whatever is neither a GPT-2 language model nor a GPT-2 that ranks texts."""
    model_type = values.get("model_type", "gpt2")
    if model_type != "gpt2":
        raise CheckpointError(
            f"{source}: expected model_type gpt2, found {brief(model_type)}; dialocpp runs GPT-2 models only"
        )
    if "model_type" not in values:  # then only the class tells
        for name in _architectures(values, source):
            if _CLASS.match(name) and not name.startswith("GPT2") and not _WRAPPERS.match(name):
                raise CheckpointError(
                    f"{source}: expected the architecture of a GPT-2, found {brief(name)}; "
                    "choose a GPT-2 language model, or DialogRPT for ranking"
                )
    for key, meaning in _FOREIGN_FLAGS.items():
        if values.get(key):
            raise CheckpointError(
                f"{source}: expected a plain GPT-2, found {meaning} ({key} is set); choose another model"
            )


def _architectures(values: Mapping[str, Any], source: str) -> list[str]:
    """The names of classes that a config gives, without the framework's prefix; a name alone is a list of one."""
    given = values.get("architectures") or []
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _wrong(source, "architectures to be a list of names", brief(given))
    return [_FRAMEWORKS.sub("", name) for name in names]


def _num_labels(values: Mapping[str, Any], source: str) -> int:
    """0 for a language model, whatever else its config says; of a classifier, what `id2label` or `num_labels` says."""
    if _CLASSIFIER not in _architectures(values, source):
        return 0
    count, labels = values.get("num_labels"), values.get("id2label")
    if labels is None:
        return _size(_DEFAULT_LABELS if count is None else count, "num_labels", _MAX_LABELS, source)
    if not isinstance(labels, dict) or not 1 <= len(labels) <= _MAX_LABELS:
        raise _wrong(source, f"id2label to be an object of 1 to {_MAX_LABELS} labels", brief(labels))
    # Versions of transformers differ in which of the two they believe.
    if count is not None and count != len(labels):
        raise _wrong(source, f"num_labels to count the {len(labels)} labels of id2label", brief(count))
    return len(labels)


def _size(value: Any, name: str, limit: int, source: str) -> int:
    if type(value) is not int or not 1 <= value <= limit:
        raise _wrong(source, f"{name} to be a whole number from 1 to {limit}", brief(value))
    return value


def _flag(value: Any, name: str, source: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(source, f"{name} to be true or false", brief(value))
    return value


def _epsilon(value: Any, source: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
        raise _wrong(source, "layer_norm_epsilon to be a number between 0 and 1", brief(value))
    return float(value)


def _activation(value: Any, source: str) -> str:
    if value not in _core.ACTIVATIONS:
        raise CheckpointError(
            f"{source}: expected activation_function to be one of {', '.join(_core.ACTIVATIONS)}, "
            f"found {brief(value)}; choose another model"
        )
    return str(value)


def _token_ids(value: Any, name: str, vocab_size: int, source: str) -> tuple[int, ...]:
    """None, an id or a list, as a tuple of those inside the vocabulary: no other can ever be generated.

    Some trainings write -1 for none.
    """
    ids = [] if value is None else value if isinstance(value, list) else [value]
    if any(type(token) is not int for token in ids):
        raise _wrong(source, f"{name} to be a token id, a list of them or null", brief(value))
    return tuple(token for token in ids if 0 <= token < vocab_size)
