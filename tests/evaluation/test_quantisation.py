"""Does int8 keep the quality of float32, also on a model with outlier channels?"""

from __future__ import annotations

import json
import lzma
import shutil
from pathlib import Path

import numpy as np
import pytest
from dialocpp import Model
from dialocpp.evaluation.quantisation import compare
from dialocpp.prompt.turns import Turn, turn_ids
from safetensors.numpy import load_file, save_file

# Readers of a LayerNorm's output; the head is left out, for dividing its rows would change the embedding too.
READERS = {"ln_1": "attn.c_attn", "ln_2": "mlp.c_fc"}


def with_outliers(source: Path, target: Path) -> Path:
    """The same function with 1 % of each LayerNorm's channels 30 times as large, as real GPT-2s have them."""
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    rng = np.random.default_rng(0)
    tensors = {name: array.astype(np.float32) for name, array in load_file(source / "model.safetensors").items()}
    channels = len(tensors["transformer.ln_f.weight"])
    for layer in range(6):
        for norm, reader in READERS.items():
            chosen = rng.choice(channels, max(1, round(channels / 100)), replace=False)
            for part in ("weight", "bias"):
                tensors[f"transformer.h.{layer}.{norm}.{part}"][chosen] *= 30
            tensors[f"transformer.h.{layer}.{reader}.weight"][chosen] /= 30
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def dialogues(shared: Path, model: Model, count: int) -> list[list[int]]:
    """The first dialogues of a test split as token ids."""
    with lzma.open(shared / "data" / "dialogues" / "self-dialogue.test.jsonl.xz", "rt", encoding="utf-8") as file:
        lines = [json.loads(line)["turns"] for _, line in zip(range(count), file, strict=False)]
    encode, eos = model.tokenizer.encode, model.tokenizer.eos_token_id
    return [turn_ids([Turn("user", text, tuple(encode(text))) for text in turns], eos) for turns in lines]


@pytest.mark.parametrize("outliers", [False, True])
def test_int8_is_close_to_float32(shared: Path, tmp_path: Path, outliers: bool) -> None:
    plain = shared / "models" / "demo"
    reference = Model.from_pretrained(plain, dtype="float32")
    folder = with_outliers(plain, tmp_path / "outliers") if outliers else plain
    quality = compare(reference, Model.from_pretrained(folder, dtype="int8"), dialogues(shared, reference, 100))
    assert quality.positions > 15_000
    assert abs(quality.relative_difference) < 0.003
    assert quality.top1_agreement > 0.98


def test_outliers_leave_the_function_as_it_was(shared: Path, tmp_path: Path) -> None:
    """Otherwise the test above would compare two different models."""
    plain = shared / "models" / "demo"
    changed = Model.from_pretrained(with_outliers(plain, tmp_path / "outliers"), dtype="float32")
    ids = list(range(100, 200))
    expected = Model.from_pretrained(plain, dtype="float32").logits(ids)
    np.testing.assert_allclose(changed.logits(ids), expected, atol=1e-3)


def test_the_difference_is_seen(shared: Path, tmp_path: Path) -> None:
    """A model with one damaged layer must not pass for its original."""
    plain = shared / "models" / "demo"
    target = tmp_path / "damaged"
    shutil.copytree(plain, target, copy_function=shutil.copyfile)
    tensors = load_file(plain / "model.safetensors")
    tensors["transformer.h.3.mlp.c_fc.weight"] *= 0.9
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    reference = Model.from_pretrained(plain, dtype="float32")
    quality = compare(reference, Model.from_pretrained(target, dtype="float32"), dialogues(shared, reference, 20))
    assert quality.top1_agreement < 0.98
