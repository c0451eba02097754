"""Does greedy decoding with every kind of processor say what transformers says, token for token, on 256 prompts?"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import Model
from small_models import Gpt2

BATCH = 32
LENGTH = 14

# What both take under the same names; each for a batch of prompts of its own.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "sequence_bias": {
        "sequence_bias": [[[5], 5.0], [[7, 9], 4.0], [[5, 5], -4.0], [[12], -6.0], [[260], 2.0], [[260, 300], 5.0]]
    },
    "bad_words_ids": {
        "bad_words_ids": [[i] for i in range(0, 300, 3)] + [[i, i + 1] for i in range(1, 298, 3)] + [[300]]
    },
    "suppress_tokens": {"suppress_tokens": list(range(100, 250))},
    "begin_suppress_tokens": {"begin_suppress_tokens": list(range(150, 301))},
    "forced_eos_token_id": {"forced_eos_token_id": 299},
    "repetition_penalty": {"repetition_penalty": 1.8},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 1, "min_new_tokens": 6},
    "all": {
        "sequence_bias": [[[5], 3.0], [[7, 9], 4.0], [[12], -6.0]],
        "bad_words_ids": [[i] for i in range(60)] + [[i, i + 1] for i in range(60, 299)],
        "suppress_tokens": list(range(100, 150)),
        "begin_suppress_tokens": list(range(150, 220)),
        "forced_eos_token_id": [299, 300],
        "repetition_penalty": 1.3,
        "no_repeat_ngram_size": 2,
        "min_new_tokens": 5,
    },
}


@pytest.fixture(scope="module")
def folder(save_folder: Callable[[Gpt2], Path], wide: Gpt2) -> Path:
    return save_folder(wide)


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return Model.from_pretrained(folder, dtype="float32", num_threads=1)


def peer_of(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # more would only wait for each other in so small a model
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def peer(folder: Path) -> Any:
    return peer_of(folder)


def prompts_of(index: int, vocab: int = 300) -> list[list[int]]:
    """All of one length, so that transformers needs no padding."""
    return np.random.default_rng(index).integers(0, vocab, (BATCH, 5 + index)).tolist()


def transformers_ids(peer: Any, prompts: list[list[int]], end: int, **arguments: Any) -> list[list[int]]:
    """Without the end-of-text and what follows it."""
    import torch

    rows = torch.tensor(prompts)
    with torch.no_grad():
        output = peer.generate(
            rows, attention_mask=torch.ones_like(rows), do_sample=False, pad_token_id=end, **arguments
        )[:, rows.shape[1] :].tolist()
    return [ids[: ids.index(end)] if end in ids else ids for ids in output]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_greedy_ids_are_transformers(model: Model, peer: Any, name: str) -> None:
    prompts = prompts_of(list(ARGUMENTS).index(name))
    expected = transformers_ids(peer, prompts, end=300, max_new_tokens=LENGTH, **ARGUMENTS[name])
    found = model.generate(prompts, max_new_tokens=LENGTH, **ARGUMENTS[name])
    assert [list(generation.token_ids) for generation in found] == expected
    plain = model.generate(prompts, max_new_tokens=LENGTH)
    changed = sum(a.token_ids != b.token_ids for a, b in zip(found, plain, strict=True))
    assert changed > BATCH // 2, "else agreement would prove nothing"


def test_a_logit_bias_is_a_sequence_bias_of_one_token(model: Model) -> None:
    prompts = prompts_of(0)
    for bias in (4.0, -100, -float("inf")):
        one, other = {"logit_bias": {5: bias, "9": 1}}, {"sequence_bias": {(5,): bias, (9,): 1.0}}
        found = [[g.token_ids for g in model.generate(prompts, max_new_tokens=8, **form)] for form in (one, other)]
        assert found[0] == found[1]
        assert any(5 in ids for ids in found[0]) == (bias > 0)


def test_presence_and_frequency_keep_a_reply_from_repeating_itself(model: Model) -> None:
    prompts = prompts_of(1)
    length = {"max_new_tokens": 20, "min_new_tokens": 20}
    for strong in ({"presence_penalty": 100.0}, {"frequency_penalty": 100}):
        for generation in model.generate(prompts, **length, **strong):
            assert len(set(generation.token_ids)) == 20
    assert any(len(set(generation.token_ids)) < 20 for generation in model.generate(prompts, **length))


def test_the_forced_token_is_the_last_that_fits(model: Model) -> None:
    positions = model.config.n_positions
    for length, new, said in ((10, 5, 5), (positions - 2, 50, 3), (positions, 50, 1), (10, 1, 1)):
        (ended,) = model.generate([7] * length, max_new_tokens=new, forced_eos_token_id=299, eos_token_id=[])
        assert len(ended.token_ids) == said and ended.token_ids[-1] == 299
        assert 299 not in ended.token_ids[:-1]


@pytest.mark.parametrize("name", ["sequence_bias", "bad_words_ids", "suppress_tokens", "all"])
def test_the_demo_models_ids_are_transformers(shared: Path, name: str) -> None:
    folder = shared / "models" / "demo"
    model, peer = Model.from_pretrained(folder, dtype="float32", num_threads=1), peer_of(folder)
    (end,) = model.eos_token_ids
    prompts = [[*prompt, end] for prompt in prompts_of(3, vocab=4000)[:8]]
    expected = transformers_ids(peer, prompts, end=end, max_new_tokens=LENGTH, **ARGUMENTS[name])
    found = model.generate(prompts, max_new_tokens=LENGTH, **ARGUMENTS[name])
    assert [list(generation.token_ids) for generation in found] == expected


def test_draws_under_all_rules_do_not_depend_on_company_or_threads(folder: Path) -> None:
    warpers = {"temperature": 1.3, "top_k": 90, "top_p": 0.97, "min_p": 0.002, "typical_p": 0.95}
    warpers |= {"epsilon_cutoff": 1e-3, "eta_cutoff": 2e-3, "presence_penalty": 0.5, "frequency_penalty": 0.2}
    arguments = ARGUMENTS["all"] | warpers | {"do_sample": True, "max_new_tokens": LENGTH}
    prompts = prompts_of(4)[:9]
    one, two = (Model.from_pretrained(folder, dtype="int8", num_threads=threads) for threads in (1, 2))
    batch = [g.token_ids for g in one.generate(prompts, seed=5, **arguments)]
    assert len(set(batch)) == len(batch)
    assert [g.token_ids for g in two.generate(prompts, seed=5, **arguments)] == batch
    alone = [two.generate([prompt], seed=5 + i, **arguments)[0].token_ids for i, prompt in enumerate(prompts)]
    assert alone == batch
