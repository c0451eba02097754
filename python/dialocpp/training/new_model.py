"""What does a run start from? A folder's weights and tokenizer, or random weights with a tokenizer of their own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, GPT2Config, GPT2LMHeadModel

from dialocpp.errors import CheckpointError
from dialocpp.text.tokenizer import Tokenizer as OurTokenizer

END_OF_TEXT = "<|endoftext|>"
# layers, channels, heads, positions; tokens of a tokenizer that is trained with it
SHAPES: dict[str, tuple[int, int, int, int, int]] = {
    "tiny": (4, 128, 4, 256, 4096),
    "demo": (6, 256, 4, 256, 8192),
    "small": (12, 768, 12, 1024, 50257),
    "medium": (24, 1024, 16, 1024, 50257),
    "large": (36, 1280, 20, 1024, 50257),
}
_TEMPLATE = "{% for message in messages %}{{ message.content }}{{ eos_token }}{% endfor %}"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json", "pytorch_model.bin.index.json")


@dataclass(frozen=True)
class Start:
    """A model to be trained, its tokenizer, and where the tokenizer's files lie."""

    model: GPT2LMHeadModel
    encode_batch: OurTokenizer
    end_of_text: int
    folder: Path

    def encode(self, turns: list[str]) -> list[list[int]]:
        """Plain text: a control token's name in a turn is text, as it is when the model is used."""
        return [list(self.encode_batch.encode(turn)) for turn in turns]


def from_folder(folder: Path, dropout: float) -> Start:
    """A checkpoint's float weights. CheckpointError for one that holds none, or is no GPT-2 language model."""
    if not any((folder / name).is_file() for name in _WEIGHTS):
        raise CheckpointError(
            f"expected float weights to train in {folder} ({_WEIGHTS[0]} or {_WEIGHTS[1]}), found none; int8 weights "
            "cannot be trained: give the model that they were made from"
        )
    config = AutoConfig.from_pretrained(folder)
    if config.model_type != "gpt2":
        raise CheckpointError(f"expected a GPT-2 in {folder}, found model_type {config.model_type!r}")
    for name in ("resid_pdrop", "embd_pdrop", "attn_pdrop"):
        setattr(config, name, dropout)
    model = GPT2LMHeadModel.from_pretrained(folder, config=config, dtype=torch.float32)
    tokenizer = OurTokenizer.from_folder(folder)
    return Start(model, tokenizer, tokenizer.eos_token_id, folder)


def from_shape(shape: str, texts: Iterable[str], vocab_size: int | None, dropout: float, seed: int, out: Path) -> Start:
    """Random weights, and a byte-level BPE trained on `texts`, written to `out`. ValueError for no such shape."""
    if shape not in SHAPES:
        raise ValueError(f"shape: expected one of {', '.join(SHAPES)}, found {shape!r}")
    layers, channels, heads, positions, tokens = SHAPES[shape]
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "tokenizer.json").exists():  # a run that goes on has it already
        _write_tokenizer(out, texts, vocab_size or tokens, positions)
    tokenizer = OurTokenizer.from_folder(out)
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=tokenizer.vocab_size,
        n_positions=positions,
        n_embd=channels,
        n_layer=layers,
        n_head=heads,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
    )
    return Start(GPT2LMHeadModel(config), tokenizer, tokenizer.eos_token_id, out)


def _write_tokenizer(folder: Path, texts: Iterable[str], vocab_size: int, positions: int) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = AddedToken(END_OF_TEXT, special=True, normalized=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_bounded(texts), trainer=trainer)
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": positions,
        **{f"{kind}_token": END_OF_TEXT for kind in ("bos", "eos", "unk")},
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": _TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    unfinished = folder / "tokenizer.json.unfinished"  # whole or not at all: a restart looks for it
    tokenizer.save(str(unfinished))
    unfinished.replace(folder / "tokenizer.json")


def _bounded(texts: Iterable[str], characters: int = 200_000_000) -> Iterator[str]:
    """As much text as a tokenizer needs."""
    for text in texts:
        yield text
        characters -= len(text)
        if characters < 0:
            return


def copy_tokenizer(source: Path, out: Path) -> None:
    """The tokenizer's files beside the new weights."""
    if source.resolve() == out.resolve():
        return
    names = (
        "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "vocab.txt", "spiece.model",
        "special_tokens_map.json", "added_tokens.json", "generation_config.json", "chat_template.jinja",
    )  # fmt: skip
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, out / name)
