"""Is a score the same to the last bit, however the text is cut into steps and whatever is scored beside it?"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import Model
from dialocpp.engine.scoring import Scoring, score_after, score_texts
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import gpt2_config, random_gpt2

EOS = 300


@pytest.fixture(scope="module", params=["float32", "int8"])
def model(request: pytest.FixtureRequest, wide_folder: Path) -> Model:
    return Model.from_pretrained(wide_folder, dtype=request.param)


@pytest.fixture(scope="module")
def long_model(save_folder: Any) -> Model:
    sizes = {"vocab_size": 97, "n_positions": 1000, "n_embd": 40, "n_layer": 2, "n_head": 5}
    return Model.from_pretrained(save_folder(random_gpt2(gpt2_config(**sizes))), dtype="float32")


def ids(count: int, seed: int = 0, vocab: int = EOS) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocab, count).tolist()


@pytest.mark.parametrize(("prefix", "scored"), [(1, 1), (1, 159), (31, 2), (32, 33), (100, 1), (5, 60)])
def test_a_score_is_what_logprobs_gives(model: Model, prefix: int, scored: int) -> None:
    text = ids(prefix + scored, seed=prefix)
    expected = model.logprobs(text)[-scored:].tolist()
    assert score_texts(model.runtime, [(text[:prefix], text[prefix:])]) == [expected]
    assert score_after(model.runtime, text[:prefix], [text[prefix:], text[prefix:-1] or text[prefix:]])[0] == expected


@pytest.mark.parametrize("prefix", [1, 100, 255, 256, 257, 400])
def test_a_long_text_is_scored_in_pieces(long_model: Model, prefix: int) -> None:
    text = ids(1000, seed=prefix, vocab=96)
    expected = long_model.logprobs(text)[prefix - 1 :].tolist()
    assert score_texts(long_model.runtime, [(text[:prefix], text[prefix:])]) == [expected]


def test_many_scores_share_steps_and_the_prefix(model: Model) -> None:
    prefix, replies = ids(40), [ids(n, seed=n) for n in range(1, 17)]
    together = score_after(model.runtime, prefix, replies)
    assert together == [score_after(model.runtime, prefix, [reply])[0] for reply in replies]
    assert model.kv_bytes_in_use == 0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 30), st.integers(1, 40))
def test_any_budget_scores_the_same(
    long_model: Model, budgets: list[int], prefix: int, scored: int
) -> None:
    text = ids(prefix + scored, vocab=96)
    job, engine = Scoring(long_model.runtime.new_sequence(), text, scored), long_model.runtime.engine
    job.begin()
    for budget in [*budgets, *[2] * 100]:
        if job.done:
            break
        work = job.plan(budget)
        assert 1 <= len(work[0]) <= max(budget, 2)
        job.commit(engine.step(work))
    assert job.logprobs == long_model.logprobs(text)[-scored:].tolist()


def test_replies_are_scored_in_one_batch(model: Model) -> None:
    context, replies = ["hello there", "hi"], ["how are you", "", "a longer one than the others"]
    together = model.score_replies(context, replies)
    for reply, score in zip(replies, together, strict=True):
        alone = model.score(context, reply)
        assert (alone.token_ids, alone.logprobs.tolist()) == (score.token_ids, score.logprobs.tolist())
    assert model.score_replies(context, []) == []
