"""Do the parts agree where they meet: a batch and its readers, hooks and steps, guards and the running ahead?"""

import dataclasses
from typing import Any

import numpy as np
import pytest
from dialocpp import ChatSession, Model
from dialocpp.decoding.generation_config import KEPT_BY_GREEDY, GenerationConfig, override
from dialocpp.engine.request import RUN_AHEAD
from dialocpp.engine.scheduler import Scheduler
from sentences import one_sentence

LINES = ["Hello, how are you?", "Do you like music?", "What did you do last weekend?"]
PROMPTS = ["Hello!<|endoftext|>", "Do you like music?<|endoftext|>", "What now?<|endoftext|>"]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_pretrained()


@pytest.mark.parametrize("arguments", [{}, {"do_sample": True, "num_return_sequences": 2, "seed": 1}])
def test_a_batch_stays_together_to_its_end(
    model: Model, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    sizes: list[int] = []
    plan = Scheduler._plan

    def counted(self: Scheduler, needed: Any) -> Any:
        planned = plan(self, needed)
        sizes.append(len(planned))
        return planned

    monkeypatch.setattr(Scheduler, "_plan", counted)
    length = 2 * RUN_AHEAD + 5
    replies = model.generate(PROMPTS, max_new_tokens=length, min_new_tokens=length, **arguments)
    assert sizes[-length:] == [len(replies)] * length


# Functions of the caller


def test_a_hook_that_runs_the_same_model_is_told_so(model: Model) -> None:
    def hook(tokens: list[int], logits: Any) -> None:
        model.generate([1, 2, 3], max_new_tokens=1)

    with one_sentence(RuntimeError, "cannot run the same model"):
        model.generate([5], logits_processor=hook)
    plain = model.generate([5], max_new_tokens=4)[0].token_ids
    looked = model.generate([5], max_new_tokens=4, logits_processor=lambda ids, row: model.logits(ids)[-1])
    assert looked[0].token_ids == plain


def test_a_hook_must_not_force_by_infinity(model: Model) -> None:
    def hook(tokens: list[int], logits: Any) -> None:
        logits[9] = np.inf

    with one_sentence(ValueError, "to force a token, ban the others"):
        model.generate([5], logits_processor=hook)


def test_a_plan_that_fails_is_its_owners_alone(model: Model) -> None:
    expected = str(ChatSession(model, seed=3).reply(LINES[0]))
    broken, chat = ChatSession(model), ChatSession(model, seed=3)
    stream = broken.stream(LINES[0])
    request: Any = stream._task._first_job
    request.rules = dataclasses.replace(request.rules, bans=lambda generated: 1 // 0)
    assert str(chat.reply(LINES[0])) == expected
    with pytest.raises(ZeroDivisionError):
        next(stream)


# Rules that leave nothing


@pytest.mark.parametrize("eos", [-1, 2**31 - 1, [2**31 - 1, 3]])
def test_the_end_is_a_token_of_the_vocabulary(model: Model, eos: Any) -> None:
    everything = list(range(model.config.vocab_size))
    for more in ({"top_logprobs": 0}, {"do_sample": True}):
        reply = model.generate([5], eos_token_id=eos, suppress_tokens=everything, max_new_tokens=3, **more)[0]
        assert set(reply.token_ids) <= {0, 3}


def test_beams_whose_rules_leave_nothing_keep_what_they_have(model: Model) -> None:
    rules: dict[str, Any] = {"forced_eos_token_id": 0, "suppress_tokens": [0], "max_new_tokens": 4}
    reply = model.generate(PROMPTS[0], num_beams=2, **rules)[0]
    assert (len(reply.token_ids), reply.finish_reason) == (3, "eos")


# What belongs to what


def test_greedy_for_one_reply_keeps_limits_and_bans() -> None:
    base = GenerationConfig(do_sample=True, top_k=7, stop_strings=["x"], max_time=3.0, top_logprobs=2)
    greedy = override(base, {"do_sample": False})
    assert {name: getattr(greedy, name) for name in KEPT_BY_GREEDY} == {
        name: getattr(base, name) for name in KEPT_BY_GREEDY
    }
    assert greedy.top_k == GenerationConfig().top_k


def test_a_config_does_not_change_with_the_callers_list() -> None:
    stops = ["a"]
    config = GenerationConfig(stop_strings=stops)
    stops.append("b")
    assert config.stopping_strings == ("a",)
