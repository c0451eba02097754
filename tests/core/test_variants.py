"""Is each kind of GPT-2 that users have, read from a torch file, what transformers computes from it?"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import Model
from small_models import VARIANTS, byte_level_tokenizer, gpt2_config

MORE: dict[str, dict[str, Any]] = {
    "2048 positions": {"n_positions": 2048},
    "300 positions, 10 layers": {"n_positions": 300, "n_layer": 10},
    "heads of 80": {"n_embd": 160, "n_head": 2},
    "heads of 1": {"n_embd": 8, "n_head": 8},
    "inner 8 C": {"n_inner": 320, "activation_function": "gelu_fast"},
    "embedding padded beyond the tokenizer": {"vocab_size": 128},
    "several ends of text": {"eos_token_id": [3, 96]},
    "untied and scaled by layer": {"tie_word_embeddings": False, "scale_attn_by_inverse_layer_idx": True},
}
ALL = VARIANTS | MORE
TOLERANCE = 1e-4
IDS = [5, 0, 96, 33, 33, 7, 64, 12, 90, 1]


@pytest.mark.parametrize("name", list(ALL))
def test_logits_equal_those_of_transformers(tmp_path: Path, name: str) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    values = gpt2_config() | ALL[name]
    torch.manual_seed(len(name))
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**values, initializer_range=0.2)).eval()
    with torch.no_grad():
        for key, parameter in theirs.named_parameters():
            if "ln_" in key or "bias" in key:  # not 1 and 0, as a new model has them
                parameter.add_(0.1 * torch.randn_like(parameter))
        expected = theirs(torch.tensor([IDS])).logits[0].numpy()
    is_zip = list(ALL).index(name) % 2 == 0
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=is_zip)
    (tmp_path / "config.json").write_text(json.dumps(values))
    byte_level_tokenizer(97).save(str(tmp_path / "tokenizer.json"))
    ours = Model.from_pretrained(tmp_path, dtype="float32", num_threads=1)
    np.testing.assert_allclose(ours.logits(IDS), expected, rtol=0, atol=TOLERANCE)
    assert ours.eos_token_ids == tuple(np.atleast_1d(values["eos_token_id"]).tolist())
