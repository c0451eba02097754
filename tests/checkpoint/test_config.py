"""Does a config.json mean what it means to transformers, and is every wrong one refused by name?"""

import json
from pathlib import Path
from typing import Any

import pytest
from dialocpp import _core
from dialocpp.checkpoint.config import ModelConfig
from dialocpp.checkpoint.json_file import read_json_object
from dialocpp.errors import CheckpointError

DIALOGPT_MEDIUM = {
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-05,
    "n_ctx": 1024,
    "n_embd": 1024,
    "n_head": 16,
    "n_layer": 24,
    "n_positions": 1024,
    "vocab_size": 50257,
}


def test_defaults_fill_what_dialogpt_leaves_out() -> None:
    config = ModelConfig.from_dict(DIALOGPT_MEDIUM)
    assert (config.n_embd, config.n_inner, config.n_layer, config.n_head) == (1024, 4096, 24, 16)
    assert config.tie_word_embeddings and config.scale_attn_weights
    assert not config.scale_attn_by_inverse_layer_idx
    assert (config.bos_token_id, config.eos_token_id, config.eos_token_ids) == (50256, 50256, (50256,))


def test_an_empty_config_is_gpt2_small() -> None:
    config = ModelConfig.from_dict({})
    assert (config.vocab_size, config.n_positions, config.n_embd, config.n_layer) == (50257, 1024, 768, 12)
    assert (config.activation_function, config.layer_norm_epsilon) == ("gelu_new", 1e-5)


@pytest.mark.parametrize("name", ["small", "medium", "large"])
def test_published_configs_mean_what_transformers_reads(shared: Path, name: str) -> None:
    transformers = pytest.importorskip("transformers")
    path = shared / "data" / "dialogpt-configs" / f"{name}.json"
    theirs = transformers.GPT2Config.from_dict(json.loads(path.read_text()))
    ours = ModelConfig.from_file(path)
    for field, value in ours.architecture().items():
        expected = 4 * theirs.n_embd if field == "n_inner" else getattr(theirs, field)
        assert value == expected, field
    assert (ours.bos_token_id, ours.eos_token_id) == (theirs.bos_token_id, theirs.eos_token_id)


def test_second_names_of_the_sizes() -> None:
    sizes = {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 3,
        "max_position_embeddings": 99,
    }
    config = ModelConfig.from_dict(sizes)
    assert (config.n_embd, config.n_head, config.n_layer, config.n_positions) == (64, 4, 3, 99)


@pytest.mark.parametrize(
    ("value", "ids"), [(7, (7,)), ([7, 9], (7, 9)), (None, ()), (-1, ()), (50256, ()), ([3, 50256], (3,)), ([], ())]
)
def test_eos_token_ids_are_those_inside_the_vocabulary(value: Any, ids: tuple[int, ...]) -> None:
    config = ModelConfig.from_dict({"vocab_size": 13317, "eos_token_id": value})
    assert config.eos_token_ids == ids
    assert config.eos_token_id == (ids[0] if ids else None)


@pytest.mark.parametrize("eos", [5, [5, 6], None])
def test_to_dict_is_read_back_as_the_same_config(eos: Any) -> None:
    changes = {
        "n_inner": 100,
        "eos_token_id": eos,
        "tie_word_embeddings": False,
        "activation_function": "relu",
    }
    config = ModelConfig.from_dict(DIALOGPT_MEDIUM | changes)
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_core_takes_the_numbers() -> None:
    table = _core.tensor_table(ModelConfig.from_dict({"n_embd": 64, "n_head": 4, "n_inner": 100}).to_core())
    shapes = {spec.name: tuple(spec.shape) for spec in table}
    assert shapes["h.11.mlp.c_fc.weight"] == (64, 100)
    assert "lm_head.weight" not in shapes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "t5"}, "expected model_type gpt2, found 't5'"),
        ({"model_type": "gpt_neo"}, "found 'gpt_neo'"),
        ({"model_type": "bert"}, "found 'bert'"),
        ({"model_type": "gpt_bigcode"}, "found 'gpt_bigcode'"),
        ({"model_type": "blenderbot"}, "found 'blenderbot'"),
        ({"model_type": None}, "expected model_type gpt2, found None"),
        ({"architectures": ["T5ForConditionalGeneration"]}, "found 'T5ForConditionalGeneration'"),
        ({"architectures": {"0": "GPT2Model"}}, "architectures to be a list of names"),
        ({"architectures": ["GPT2Model", 5]}, "architectures to be a list of names"),
        ({"is_encoder_decoder": True}, "an encoder-decoder model"),
        ({"add_cross_attention": True}, "cross-attention"),
        ({"quantization_config": {"quant_method": "gptq"}}, "weights quantised by another tool"),
        ({"activation_function": "mish"}, "one of .*gelu_new.*, found 'mish'"),
        ({"activation_function": ["gelu"]}, r"found \['gelu'\]"),
        ({"n_embd": 0}, "n_embd to be a whole number from 1 to 65536, found 0"),
        ({"n_embd": 768.0}, "n_embd to be a whole number .*, found 768.0"),
        ({"n_layer": True}, "n_layer to be a whole number .*, found True"),
        ({"n_layer": 10**12}, "n_layer to be a whole number .*, found 1000000000000"),
        ({"n_positions": None}, "n_positions to be a whole number .*, found None"),
        ({"vocab_size": "50257"}, "vocab_size to be a whole number .*, found '50257'"),
        ({"n_head": 7}, "n_embd to be a multiple of n_head 7, found 1024"),
        ({"n_inner": -1}, "n_inner to be a whole number .*, found -1"),
        ({"layer_norm_epsilon": 0}, "layer_norm_epsilon to be a number between 0 and 1, found 0"),
        ({"layer_norm_epsilon": float("nan")}, "found nan"),
        ({"layer_norm_epsilon": "1e-5"}, "found '1e-5'"),
        ({"scale_attn_weights": 1}, "scale_attn_weights to be true or false, found 1"),
        ({"tie_word_embeddings": None}, "tie_word_embeddings to be true or false, found None"),
        ({"eos_token_id": "</s>"}, "eos_token_id to be a token id"),
        ({"bos_token_id": [1, 2.5]}, "bos_token_id to be a token id"),
    ],
)
def test_wrong_configs_are_refused_in_one_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        ModelConfig.from_dict(DIALOGPT_MEDIUM | changes, source="some/config.json")
    assert str(caught.value).startswith("some/config.json: expected ")
    assert "; " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"expected a readable file .*config\.json, found none"),
        (b"{", "expected JSON in"),
        (b"\xff\xfe", "expected JSON in"),
        (b"[1, 2]", "expected a JSON object in .*, found list"),
    ],
)
def test_unreadable_config_files(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        ModelConfig.from_file(path)
    with pytest.raises(CheckpointError, match=message):
        read_json_object(path)
