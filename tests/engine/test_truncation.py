"""What is dropped of a text that is too long, when the caller allows it? The oldest tokens, and no more than needed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import Model
from dialocpp.errors import CapacityError

POSITIONS = 64
LONG = [int(id_) for id_ in np.random.default_rng(3).integers(0, 96, 90)]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> Model:
    return Model.from_pretrained(tiny_folder, dtype="float32", num_threads=1)


@pytest.mark.parametrize(
    ("tokens", "new", "kept"),
    [(90, 5, 60), (65, 1, 64), (64, 20, 45), (60, 5, 60), (3, 500, 3), (90, 500, 33), (66, 40, 33)],
)
def test_generate_keeps_the_last_tokens_that_leave_room(model: Model, tokens: int, new: int, kept: int) -> None:
    arguments: dict[str, Any] = {"max_new_tokens": new, "eos_token_id": []}
    (found,) = model.generate(LONG[:tokens], truncation="left", **arguments)
    (same,) = model.generate(LONG[:tokens][-kept:], **arguments)
    assert found.token_ids == same.token_ids and found.usage.prompt_tokens == kept
    assert len(found.token_ids) == min(new, POSITIONS + 1 - kept)


def test_each_prompt_of_a_batch_is_cut_by_itself(model: Model) -> None:
    batch = model.generate([LONG, LONG[:3]], truncation="left", max_new_tokens=9, num_beams=2)
    assert [one.usage.prompt_tokens for one in batch] == [56, 3]


def test_the_default_stays_the_error(model: Model) -> None:
    turns = ["abc " * 12, "def " * 12]
    for call in (
        lambda: model.generate(LONG),
        lambda: model.score(turns, "ab"),
        lambda: model.choose(turns, ["ab", "c"]),
    ):
        with pytest.raises(CapacityError):
            call()
    assert model.generate("ab", max_new_tokens=1)


def test_scores_are_those_after_the_last_tokens(model: Model) -> None:
    turns, replies = ["abc " * 12, "def " * 12], ["ab", "c", "hijk", ""]
    end = model.tokenizer.eos_token_id
    prefix = [id_ for turn in turns for id_ in (*model.tokenizer.encode(turn), end)]
    endings = [[*model.tokenizer.encode(reply), end] for reply in replies]
    room = POSITIONS - max(map(len, endings))
    assert len(prefix) > room
    for ending, score in zip(endings, model.score_replies(turns, replies, truncation="left"), strict=True):
        expected = model.logprobs(prefix[-room:] + ending)[-len(ending) :]
        np.testing.assert_allclose(score.logprobs, expected, rtol=0, atol=1e-5)
    best = model.choose(turns, replies, truncation="left")
    assert {choice.text for choice in best} == set(replies)
    alone = model.score(turns, "ab", truncation="left")
    ending = endings[0]
    expected = model.logprobs(prefix[-(POSITIONS - len(ending)) :] + ending)[-len(ending) :]
    np.testing.assert_allclose(alone.logprobs, expected, rtol=0, atol=1e-5)


def test_a_reply_that_fits_alone_nowhere_stays_an_error(model: Model) -> None:
    with pytest.raises(CapacityError):
        model.score(["a"], "abc " * 40, truncation="left")


@pytest.mark.parametrize("wrong", ["right", True, "LEFT", 3])
def test_another_word_is_refused(model: Model, wrong: Any) -> None:
    for call in (
        lambda: model.generate("ab", truncation=wrong),
        lambda: model.score(["ab"], "c", truncation=wrong),
    ):
        with pytest.raises(ValueError, match=r"^expected truncation to be 'left' or None, found "):
            call()
