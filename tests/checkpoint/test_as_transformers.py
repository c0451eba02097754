"""Does every checkpoint that transformers loads give the same logits here, whatever a training has put around it?

One table for each kind. The judge is transformers 5: with the same files, or, for wrapped names, with the model whose
names the wrapper has not touched (transformers loads some of the others with wrong numbers).
"""

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import Stored, entries, stored, stored_bf16, write_folder, write_safetensors, write_shards
from dialocpp import Model
from dialocpp.checkpoint import load_checkpoint
from dialocpp.errors import CheckpointError, CheckpointWarning
from small_models import Gpt2, byte_level_tokenizer, gpt2_config, hf_name, random_gpt2

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

IDS = [5, 17, 42, 3, 96, 11, 60]
TOLERANCE = 1e-4
WTE, HEAD = "transformer.wte.weight", "lm_head.weight"

Tensors = dict[str, Stored]


def ours(folder: Path) -> np.ndarray:
    """The logits of a folder, to which a tokenizer is added."""
    if not (folder / "tokenizer.json").exists():
        vocab_size = json.loads((folder / "config.json").read_text())["vocab_size"]
        byte_level_tokenizer(vocab_size).save(str(folder / "tokenizer.json"))
    return Model.from_pretrained(folder, dtype="float32", num_threads=1).logits(IDS)


def theirs(folder: Path) -> np.ndarray:
    """transformers' logits of the same files; what it says about them is its own business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return model.eval()(torch.tensor([IDS])).logits[0].numpy()


def plain_logits(folder: Path, gpt2: Gpt2) -> np.ndarray:
    """transformers' logits of the model as it was before anything was put around it."""
    return theirs(write_folder(folder, gpt2.config, entries(gpt2)))


# 1. Prefixes

PREFIXES = {
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "compiled, then distributed": lambda name: f"module._orig_mod.{name}",
    "allennlp": lambda name: f"_module.{name}",
    "lightning": lambda name: f"model.{name}",
    "peft": lambda name: f"base_model.model.{name}",
    "trl": lambda name: f"pretrained_model.{name}",
    "fsdp, at each module": lambda name: f"_fsdp_wrapped_module.{name}".replace("ln_1.", "ln_1._fsdp_wrapped_module."),
    "blocks compiled one by one": lambda name: name.replace("h.1.", "h.1._orig_mod."),
    "activation checkpoints": lambda name: name.replace("h.0.", "h.0._checkpoint_wrapped_module."),
    "a name of one's own": lambda name: f"chatbot.decoder_v2.{name}",
    "digits": lambda name: f"0.auto_model.{name}",
    "the body alone": lambda name: name.removeprefix("transformer."),
    "the body alone, wrapped": lambda name: f"gpt.{name.removeprefix('transformer.')}",
    "the body named otherwise": lambda name: f"net.backbone.{name.removeprefix('transformer.')}",
    "deepspeed": lambda name: f"module.module.{name}",
    "a name that ends as ours": lambda name: f"my_transformer.{name}",
}


@pytest.mark.parametrize("wrap", PREFIXES.values(), ids=PREFIXES.keys())
@pytest.mark.parametrize("tied", [True, False])
def test_prefixes(tmp_path: Path, wrap: Callable[[str], str], tied: bool) -> None:
    gpt2 = random_gpt2(gpt2_config(tie_word_embeddings=tied))
    wrapped = {wrap(name): tensor for name, tensor in entries(gpt2).items()}
    if not tied and wrap(WTE).endswith(("gpt.wte.weight", "backbone.wte.weight")):
        wrapped[HEAD] = wrapped.pop(wrap(HEAD))  # a head beside a wrapped body
    folder = write_folder(tmp_path / "wrapped", gpt2.config, wrapped)
    np.testing.assert_allclose(ours(folder), plain_logits(tmp_path / "plain", gpt2), atol=TOLERANCE, rtol=0)


def test_two_models_side_by_side_are_refused(tmp_path: Path, tiny: Gpt2) -> None:
    both = {f"{side}.{name}": tensor for side in ("policy", "reference") for name, tensor in entries(tiny).items()}
    with pytest.raises(CheckpointError, match=r"one GPT-2, found those of 2, under 'policy\.', 'reference\.'"):
        load_checkpoint(write_folder(tmp_path, tiny.config, both))


# 2. Architectures

ARCHITECTURES = [
    *(["TFGPT2LMHeadModel"], ["FlaxGPT2LMHeadModel"], ["GPT2LMHeadModelWithValueHead"], ["OptimizedModule"], ["gpt2"]),
    *("GPT2LMHeadModel", None, [], ["AutoModelForCausalLMWithValueHead"], ["PeftModelForCausalLM"]),
    *(["GPT2ForTokenClassification"], ["GPT2DoubleHeadsModel", "x"], ["FullyShardedDataParallel"], ["MyBot"]),
    *(["TFGPT2Model"], ["JoeyForCausalLM"], ["DistributedDataParallel"], ["GPT2ForQuestionAnswering"], "bot"),
]


@pytest.mark.parametrize("architectures", ARCHITECTURES, ids=str)
def test_architectures(tmp_path: Path, tiny: Gpt2, architectures: Any) -> None:
    folder = write_folder(tmp_path / "named", tiny.config | {"architectures": architectures}, entries(tiny))
    np.testing.assert_allclose(ours(folder), plain_logits(tmp_path / "plain", tiny), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("wrapper", ["TFGPT2ForSequenceClassification", "FlaxGPT2ForSequenceClassification"])
def test_a_classifier_of_another_framework_is_one(tmp_path: Path, wrapper: str) -> None:
    gpt2 = random_gpt2(gpt2_config(num_labels=1, architectures=[wrapper]))
    assert load_checkpoint(write_folder(tmp_path, gpt2.config, entries(gpt2))).config.num_labels == 1


FAMILIES = ["GPTNeoModel", "TFT5ForConditionalGeneration", "BlenderbotForConditionalGeneration", "BertLMHeadModel"]


@pytest.mark.parametrize("name", [*FAMILIES, "FlaxOPTForCausalLM", "GPTBigCodeForCausalLM", "LlamaForCausalLM"])
def test_other_families_are_refused_by_name(tmp_path: Path, tiny: Gpt2, name: str) -> None:
    config = {key: value for key, value in tiny.config.items() if key != "model_type"} | {"architectures": [name]}
    with pytest.raises(CheckpointError, match=rf"found '{name.removeprefix('TF').removeprefix('Flax')}'; cho"):
        load_checkpoint(write_folder(tmp_path, config, entries(tiny)))


# 3. Surplus tensors

ONE = stored(np.ones((1, 40), np.float32))
SURPLUS: dict[str, tuple[Tensors, str]] = {
    "trl's head": ({"v_head.summary.weight": ONE, "v_head.summary.bias": ONE}, r"v_head\.summary\.weight, v_head"),
    "a classifier": ({"score.weight": ONE}, r"found score\.weight beside"),
    "token classes": ({"classifier.weight": ONE, "classifier.bias": ONE}, r"classifier\.weight, classifier\.bias"),
    "answers": ({"qa_outputs.weight": ONE}, r"qa_outputs\.weight"),
    "positions": ({"transformer.position_ids": stored(np.arange(64))}, r"position_ids"),
    "a loss": ({"loss_fct.weight": ONE, "criterion.pos_weight": ONE}, r"loss_fct\.weight, criterion\.pos_weight"),
    "a reward": ({"reward_head.0.weight": ONE}, r"reward_head\.0\.weight"),
    "a metric": ({"perplexity.total": stored(np.ones(1, np.int64))}, r"perplexity\.total"),
    "an unknown type": ({"amax_history": ("F8_E4M3", (2,), b"ab")}, r"amax_history"),
    "many": ({f"probe.{i}": ONE for i in range(300)}, r"probe\.0, .* and 288 more beside"),
    "a name of a megabyte": ({"x" * 1_000_000: ONE}, r"found 'xxx[x.]*' beside"),
}  # fmt: skip


@pytest.mark.parametrize(("surplus", "named"), SURPLUS.values(), ids=SURPLUS.keys())
def test_surplus_tensors_are_left_out(tmp_path: Path, tiny: Gpt2, surplus: Tensors, named: str) -> None:
    folder = write_folder(tmp_path / "more", tiny.config, entries(tiny) | surplus)
    with pytest.warns(CheckpointWarning, match=named) as caught:
        found = ours(folder)
    assert len(caught) == 1 and len(str(caught[0].message)) < 2000
    np.testing.assert_allclose(found, plain_logits(tmp_path / "plain", tiny), atol=TOLERANCE, rtol=0)


INSIDE: dict[str, tuple[Tensors, str]] = {
    "one more layer": ({"transformer.h.2.ln_1.weight": ONE}, r"1 surplus: h\.2\.ln_1\.weight"),
    "an adapter": ({"transformer.h.0.attn.c_attn.lora_A.default.weight": ONE}, r"h\.0\.attn\.c_attn\.lora_A"),
    "cross-attention": ({"transformer.h.1.crossattention.c_attn.weight": ONE}, r"h\.1\.crossattention"),
    "a bias of the head": ({"lm_head.bias": ONE}, r"1 surplus: lm_head\.bias"),
    "a head of another size": ({HEAD: stored(np.ones((98, 40), np.float32))}, r"lm_head\.weight \(98, 40\)"),
    "an embedding of another size": ({WTE: stored(np.ones((98, 40), np.float32))}, r"expected \(97, 40\), found \(98"),
    "a norm of another size": ({"transformer.ln_f.bias": ONE}, r"ln_f\.bias \(expected \(40,\), found \(1, 40\)\)"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "found"), INSIDE.values(), ids=INSIDE.keys())
def test_what_belongs_to_a_gpt2_is_an_error(tmp_path: Path, tiny: Gpt2, change: Tensors, found: str) -> None:
    with pytest.raises(CheckpointError, match=found):
        load_checkpoint(write_folder(tmp_path, tiny.config, entries(tiny) | change))


@pytest.mark.parametrize("name", [WTE, "transformer.wpe.weight", "transformer.ln_f.bias", "transformer.h.0.ln_1.bias"])
def test_what_is_missing_is_an_error(tmp_path: Path, tiny: Gpt2, name: str) -> None:
    tensors = {key: tensor for key, tensor in entries(tiny).items() if key != name}
    with pytest.raises(CheckpointError, match=f"1 missing: {name.removeprefix('transformer.')}"):
        load_checkpoint(write_folder(tmp_path, tiny.config, tensors))


# 4. The tied head

F16 = lambda array: stored(array.astype(np.float16))  # noqa: E731
F64 = lambda array: ("F64", array.shape, array.astype(np.float64).tobytes())  # noqa: E731
# How the embedding and the head are stored; None: not at all.
HEADS: dict[str, tuple[Any, Any]] = {
    "the head alone": (None, stored),
    "the head alone, in half precision": (None, F16),
    "equal": (stored, stored),
    "the head in F16": (stored, F16),
    "the head in F64": (stored, F64),
    "the embedding in F16": (F16, stored),
    "another head": (stored, lambda array: stored(array[::-1].copy())),
    "another head, in F16": (stored, lambda array: F16(array + 1)),
    "one number is another": (stored, lambda array: stored(np.concatenate([array[:-1], array[-1:] + 1]))),
}  # fmt: skip


@pytest.mark.parametrize(("embedding", "head"), HEADS.values(), ids=HEADS.keys())
def test_tied_heads(tmp_path: Path, tiny: Gpt2, embedding: Any, head: Any) -> None:
    wte = tiny.tensors["wte.weight"]
    tensors = {name: tensor for name, tensor in entries(tiny).items() if name != WTE}
    tensors |= {name: store(wte) for name, store in ((WTE, embedding), (HEAD, head)) if store is not None}
    folder = write_folder(tmp_path, tiny.config, tensors)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = ours(folder)
    differs = head not in (stored, F16, F64)
    assert [entry.category for entry in caught] == [CheckpointWarning] * differs
    # One matrix that is rounded once is still one; transformers would compute with two.
    rounded = F16 in (embedding, head) and None not in (embedding, head)
    judge = plain_logits(tmp_path / "plain", tiny) if rounded else theirs(folder)
    np.testing.assert_allclose(found, judge, atol=TOLERANCE, rtol=0)


def test_a_head_rounded_to_bfloat16_is_tied(tmp_path: Path, tiny: Gpt2) -> None:
    wte = tiny.tensors["wte.weight"].view(np.uint32)
    nearest = ((wte + 0x7FFF + (wte >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
    folder = write_folder(tmp_path, tiny.config, entries(tiny) | {HEAD: stored_bf16(nearest)})
    assert load_checkpoint(folder).config.tie_word_embeddings
    np.testing.assert_allclose(ours(folder), plain_logits(tmp_path / "plain", tiny), atol=TOLERANCE, rtol=0)


def test_an_untied_config_keeps_a_rounded_head(tmp_path: Path, tiny: Gpt2) -> None:
    head = {HEAD: F16(tiny.tensors["wte.weight"])}
    folder = write_folder(tmp_path, tiny.config | {"tie_word_embeddings": False}, entries(tiny) | head)
    assert not load_checkpoint(folder).config.tie_word_embeddings
    np.testing.assert_allclose(ours(folder), theirs(folder), atol=TOLERANCE, rtol=0)


# 5. Torch files


def parameters(state: dict[str, Any]) -> dict[str, Any]:
    return {name: torch.nn.Parameter(tensor) for name, tensor in state.items()}


def with_attribute(state: dict[str, Any]) -> dict[str, Any]:
    """A parameter with an attribute of its own is saved by another function."""
    state = parameters(state)
    for parameter in state.values():
        parameter.decay = True
    return state


def with_optimizer(state: dict[str, Any]) -> dict[str, Any]:
    moments = {i: {"step": 3, "exp_avg": tensor * 0} for i, tensor in enumerate(state.values())}
    return {"model": state, "optimizer": {"state": moments, "param_groups": [{"lr": 1e-4, "params": [0, 1]}]}}


TORCH = {
    "parameters": parameters,
    "parameters with a state": with_attribute,
    "non-tensors beside": lambda state: {"epoch": 3, "best": None, "name": "bot", "lr": 1e-4, "on": True} | state,
    "lists and tuples beside": lambda state: state | {"losses": [1.0, 2.0], "shape": (1, 2), "meta": {"a": {"b": 1}}},
    "state_dict": lambda state: {"state_dict": state, "epoch": 3, "global_step": torch.tensor(7)},
    "model": lambda state: {"model": parameters(state), "args": {"lr": 1e-4}},
    "with its optimizer": with_optimizer,
    "model_state_dict": lambda state: {"model_state_dict": state, "scheduler": {"last": 1}},
    "a name of one's own": lambda state: {"weights": state, "version": (1, 2)},
    "wrapped as well": lambda state: {"state_dict": {f"net._orig_mod.{name}": t for name, t in state.items()}},
}  # fmt: skip


@pytest.mark.parametrize("container", ["zip", "legacy"])
@pytest.mark.parametrize("wrap", TORCH.values(), ids=TORCH.keys())
def test_torch_files(tmp_path: Path, tiny: Gpt2, wrap: Callable[[Any], Any], container: str) -> None:
    state = {hf_name(name): torch.from_numpy(array.copy()) for name, array in tiny.tensors.items()}
    folder = tmp_path / "wrapped"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(tiny.config))
    torch.save(wrap(state), folder / "pytorch_model.bin", _use_new_zipfile_serialization=container == "zip")
    np.testing.assert_allclose(ours(folder), plain_logits(tmp_path / "plain", tiny), atol=TOLERANCE, rtol=0)


def test_a_file_that_torch_wrote_without_checksums(tmp_path: Path, tiny: Gpt2) -> None:
    state = {hf_name(name): torch.from_numpy(array.copy()) for name, array in tiny.tensors.items()}
    folder = write_folder(tmp_path, tiny.config, {})
    (folder / "model.safetensors").unlink()
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, folder / "pytorch_model.bin")
    finally:
        torch.serialization.set_crc32_options(True)
    np.testing.assert_allclose(ours(folder), plain_logits(tmp_path / "plain", tiny), atol=TOLERANCE, rtol=0)


# Config values, and tensors that lie twice

VALUES: list[Mapping[str, Any]] = [
    *({"activation_function": name} for name in ("gelu_python", "tanh", "gelu_python_tanh", "gelu_accurate", "swish")),
    *({"eos_token_id": -1}, {"bos_token_id": -1, "eos_token_id": [-1, 3]}, {"pad_token_id": -1}, {"n_ctx": 7}),
]


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_values_of_the_config(tmp_path: Path, values: Mapping[str, Any]) -> None:
    gpt2 = random_gpt2(gpt2_config() | values if "eos_token_id" not in values else gpt2_config())
    folder = write_folder(tmp_path, gpt2.config | values, entries(gpt2))
    np.testing.assert_allclose(ours(folder), theirs(folder), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("name", [WTE, "transformer.h.1.mlp.c_fc.weight", "transformer.ln_f.bias"])
def test_a_tensor_in_two_shards(tmp_path: Path, tiny: Gpt2, name: str, equal: bool) -> None:
    folder = write_shards(tmp_path / "twice", tiny.config, entries(tiny))
    plain = name.removeprefix("transformer.")
    index = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    other = next(shard for shard in set(index.values()) if shard != index[name])
    again = {key: tensor for key, tensor in entries(tiny).items() if index[key] == other}
    write_safetensors(folder / other, again | {name: stored(tiny.tensors[plain] + np.float32(not equal))})
    if equal:
        np.testing.assert_allclose(ours(folder), plain_logits(tmp_path / "plain", tiny), atol=TOLERANCE, rtol=0)
    else:
        with pytest.raises(CheckpointError, match=f"expected one tensor {plain}, found it twice"):
            load_checkpoint(folder)
