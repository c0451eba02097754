"""Does beam search find what transformers' beam search finds, and nothing that depends on neighbours or threads?"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import Generation, Model
from small_models import Gpt2, gpt2_config, random_gpt2

V, EOS = 301, 300  # of the wide model

# What a token's log-probability may differ by between two float32 forwards (tests/core/test_reference.py).
ERROR = 2e-5


@pytest.fixture(scope="module")
def model(wide_folder: Path) -> Model:
    return Model.from_pretrained(wide_folder, dtype="float32")


@pytest.fixture(scope="module")
def peer(wide_folder: Path) -> Any:
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    return transformers.GPT2LMHeadModel.from_pretrained(wide_folder).eval()


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, EOS, rng.integers(1, 40)).tolist() for _ in range(count)]


def ids_of(generation: Generation) -> list[int]:
    return [*generation.token_ids, *([EOS] if generation.finish_reason == "eos" else [])]


def hugging_face(peer: Any, prompt: list[int], **arguments: Any) -> list[tuple[list[int], float]]:
    """transformers' sequences, end-of-text included, with their scores."""
    import torch

    ids = torch.tensor([prompt])
    with torch.no_grad():
        out = peer.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            pad_token_id=EOS,
            eos_token_id=EOS,
            do_sample=False,
            return_dict_in_generate=True,
            output_scores=True,
            **arguments,
        )
    found = []
    for sequence, score in zip(out.sequences.tolist(), out.sequences_scores.tolist(), strict=True):
        generated = sequence[len(prompt) :]
        end = generated.index(EOS) + 1 if EOS in generated else len(generated)
        found.append((generated[:end], score))
    return found


SETTINGS: dict[str, dict[str, Any]] = {
    "two": {"num_beams": 2},
    "the paper's ten": {"num_beams": 10, "num_return_sequences": 10},
    "long ones": {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 2.0},
    "short ones": {"num_beams": 4, "num_return_sequences": 2, "length_penalty": -1.0},
    "no length penalty": {"num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.0},
    "early": {"num_beams": 5, "num_return_sequences": 5, "early_stopping": True},
    "never": {"num_beams": 5, "num_return_sequences": 5, "early_stopping": "never"},
    "never, short ones": {"num_beams": 3, "early_stopping": "never", "length_penalty": -0.5},
    "with rules": {"num_beams": 4, "num_return_sequences": 4, "repetition_penalty": 1.3, "no_repeat_ngram_size": 2},
    "not too short": {"num_beams": 4, "num_return_sequences": 4, "min_new_tokens": 6},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_beams_are_those_of_transformers(model: Model, peer: Any, name: str) -> None:
    ended = ties = 0
    batch = prompts(24, seed=list(SETTINGS).index(name))
    arguments = {"max_new_tokens": 14, **SETTINGS[name]}
    results = iter(model.generate(batch, **arguments))
    for prompt in batch:
        expected = hugging_face(peer, prompt, **arguments)
        found = list(itertools.islice(results, len(expected)))
        for mine, (ids, score) in zip(found, expected, strict=True):
            tie = ERROR * len(ids) / len(ids) ** arguments.get("length_penalty", 1.0)
            assert mine.score == pytest.approx(score, abs=tie), (prompt, ids)
            if ids_of(mine) != ids:
                # Equal scores in another order, or a tie at the last place.
                assert sum(abs(score - other) < tie for _, other in expected) > 1 or mine is found[-1]
                ties += 1
            ended += mine.finish_reason == "eos"
    assert ended, "no beam ended by itself: the comparison would show little"
    assert ties <= 2


def test_a_beam_that_stops_at_a_string(model: Model) -> None:
    prompt = prompts(1)[0]
    rules: dict[str, Any] = {"num_beams": 3, "max_new_tokens": 10, "length_penalty": -2.0}
    stop = model.generate(prompt, **rules)[0].text[2:5]
    cut = model.generate(prompt, num_return_sequences=3, stop_strings=stop, **rules)
    assert all(stop not in generation.text for generation in cut)
    assert "stop" in {generation.finish_reason for generation in cut}


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_alone_or_together(wide_folder: Path, dtype: str, num_threads: int) -> None:
    running = Model.from_pretrained(wide_folder, dtype=dtype, num_threads=num_threads)
    batch = prompts(6, seed=5)
    arguments: dict[str, Any] = {"num_beams": 4, "num_return_sequences": 4, "max_new_tokens": 12}
    together = [(g.token_ids, g.score) for g in running.generate(batch, **arguments)]
    alone = [(g.token_ids, g.score) for prompt in batch for g in running.generate(prompt, **arguments)]
    assert together == alone
    assert running.kv_bytes_in_use == 0


def test_a_long_prompt_is_read_in_pieces_and_once(save_folder: Callable[[Gpt2], Path]) -> None:
    sizes = {"vocab_size": 97, "n_positions": 600, "n_embd": 40, "n_layer": 2, "n_head": 5}
    long = Model.from_pretrained(save_folder(random_gpt2(gpt2_config(**sizes), end_lift=1.0)), dtype="float32")
    prompt = np.random.default_rng(3).integers(0, 96, 580).tolist()
    rules: dict[str, Any] = {"num_beams": 3, "num_return_sequences": 3}
    most = long.generate(prompt, max_new_tokens=40, min_new_tokens=40, **rules)
    assert {len(found.token_ids) for found in most} == {600 - 580 + 1}, "the last token needs no position"
    for found in long.generate(prompt, max_new_tokens=20, **rules):
        ids = [*found.token_ids, *([96] if found.finish_reason == "eos" else [])]
        assert long.logprobs(prompt + ids)[-len(ids) :].mean() == pytest.approx(found.score, abs=1e-4)


# Diverse beams


def test_without_a_penalty_each_group_is_a_search_of_its_own(model: Model) -> None:
    for prompt in prompts(5, seed=8):
        plain = model.generate(prompt, num_beams=3, num_return_sequences=3, max_new_tokens=10)
        groups = model.generate(
            prompt, num_beams=6, num_beam_groups=2, num_return_sequences=6, max_new_tokens=10
        )
        assert [g.token_ids for g in groups[::2]] == [g.token_ids for g in plain]
        assert [g.token_ids for g in groups[1::2]] == [g.token_ids for g in plain]


def test_a_penalty_makes_the_groups_differ(model: Model) -> None:
    for prompt in prompts(5, seed=9):
        arguments: dict[str, Any] = {"num_beams": 8, "num_return_sequences": 8, "max_new_tokens": 10}
        plain = model.generate(prompt, **arguments)
        diverse = model.generate(prompt, num_beam_groups=4, diversity_penalty=2.0, **arguments)
        assert first_tokens(diverse) > first_tokens(plain)
        assert diverse[0].score is not None and plain[0].score is not None


def first_tokens(generations: list[Generation]) -> int:
    return len({g.token_ids[:1] for g in generations})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_beams": 0}, "num_beams to be 1 or more"),
        ({"num_beams": 2, "do_sample": True}, "beam search does not draw"),
        ({"num_beams": 2, "num_return_sequences": 3}, r"at most num_beams \(2\)"),
        ({"num_return_sequences": 2}, "greedy decoding has one outcome"),
        ({"num_beams": 4, "num_beam_groups": 3}, r"num_beams to be a multiple of num_beam_groups \(3\)"),
        ({"num_beam_groups": 2}, "set as many num_beams"),
        ({"num_beams": 2, "diversity_penalty": -1.0}, "diversity_penalty to be 0 or more"),
        ({"num_beams": 2, "top_logprobs": 1}, "top_logprobs with beam search"),
    ],
)
def test_what_does_not_go_together_is_refused(model: Model, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.generate([1, 2], **arguments)


def test_beams_whose_rules_leave_nothing_keep_what_they_have() -> None:
    rules: dict[str, Any] = {"forced_eos_token_id": 0, "suppress_tokens": [0], "max_new_tokens": 4}
    reply = Model.from_pretrained().generate("Hello!<|endoftext|>", num_beams=2, **rules)[0]
    assert (len(reply.token_ids), reply.finish_reason) == (3, "eos")
