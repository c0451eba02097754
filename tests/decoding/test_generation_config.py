"""Are generation arguments checked, kept unchangeable, and overridden as documented?"""

import dataclasses
import json
import math
from typing import Any

import pytest
from dialocpp import GenerationConfig
from dialocpp.decoding.generation_config import ARGUMENTS, CHAT, GREEDY, KEPT_BY_GREEDY, override

WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"min_p": "0.1"}, TypeError, "expected min_p to be a number, found '0.1'"),
    ({"min_p": 1.5}, ValueError, "min_p.*from 0 .off. to 1.* 1.5"),
    ({"typical_p": 0}, ValueError, "typical_p .*greater than 0"),
    ({"epsilon_cutoff": 1.0}, ValueError, "epsilon_cutoff"),
    ({"eta_cutoff": math.nan}, ValueError, "eta_cutoff"),
    ({"presence_penalty": True}, TypeError, "expected presence_penalty to be a number"),
    ({"presence_penalty": 10**400}, ValueError, "expected presence_penalty to fit into a float"),
    ({"frequency_penalty": 1000}, ValueError, "frequency_penalty .*from -100 to 100"),
    ({"bad_words": "ass"}, TypeError, "expected bad_words to be a list of strings or None, found 'ass'"),
    ({"bad_words": [5]}, TypeError, "expected bad_words to hold strings, found 5"),
    ({"bad_words": ["a", "  "]}, ValueError, "expected bad_words to hold words, found an empty one"),
    ({"bad_words_ids": [5]}, TypeError, "expected bad_words_ids to be made of lists of token ids, found 5"),
    ({"bad_words_ids": [[]]}, ValueError, "expected bad_words_ids to hold sequences of at least one token"),
    ({"bad_words_ids": [[-1]]}, ValueError, "expected bad_words_ids to hold token ids from 0"),
    ({"bad_words_ids": [[True]]}, TypeError, "expected bad_words_ids to hold token ids, which are integers"),
    ({"sequence_bias": [[[1, 2]]]}, TypeError, "expected sequence_bias to be a dict"),
    ({"sequence_bias": {(1,): "x"}}, TypeError, "expected sequence_bias to give each bias as a number"),
    ({"sequence_bias": {(1,): math.inf}}, ValueError, "expected sequence_bias to hold biases from -1e6"),
    ({"sequence_bias": {(): 1.0}}, ValueError, "expected sequence_bias to hold sequences of at least one token"),
    ({"logit_bias": {"a": 1.0}}, TypeError, "expected logit_bias to hold token ids"),
    ({"logit_bias": {5: math.nan}}, ValueError, "expected logit_bias to hold biases"),
    ({"logit_bias": [5]}, TypeError, "expected logit_bias to be a dict"),
    ({"suppress_tokens": 5}, TypeError, "expected suppress_tokens to be a list of token ids or None, found 5"),
    ({"suppress_tokens": [2**31]}, ValueError, "expected suppress_tokens to hold token ids"),
    ({"begin_suppress_tokens": [1.0]}, TypeError, "expected begin_suppress_tokens to hold token ids"),
    ({"forced_eos_token_id": "eos"}, TypeError, "expected forced_eos_token_id to be a token id, a list"),
    ({"forced_eos_token_id": -1}, ValueError, "expected forced_eos_token_id to hold token ids"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GenerationConfig(**arguments)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("minp", "min_p"), ("bad_word", "bad_words"), ("presence_penality", "presence_penalty"), ("eta", "eta_cutoff")],
)
def test_an_unknown_argument_names_the_nearest(typo: str, meant: str) -> None:
    about = f"did you mean '{meant}'" if typo != "eta" else "expected a generation argument, found 'eta'"
    with pytest.raises(TypeError, match=about):
        override(GREEDY, {typo: 1})


def test_lists_become_tuples_that_nobody_can_change() -> None:
    words, ids = ["x", "y", "x"], [[1, 2], [3]]
    config = GenerationConfig(
        bad_words=words,
        bad_words_ids=ids,
        sequence_bias=[[[1, 2], 0.5], [[3], 1], [[3], 2]],
        logit_bias={"7": -100, 8: 1.5},
        suppress_tokens={4},
        forced_eos_token_id=[5, 6],
    )
    words.append("z")
    ids[0].append(9)
    assert config.bad_words == ("x", "y") and config.bad_words_ids == ((1, 2), (3,))
    assert config.sequence_bias == (((1, 2), 0.5), ((3,), 2.0)) and config.logit_bias == ((7, -100.0), (8, 1.5))
    assert config.suppress_tokens == (4,) and config.forced_eos_token_id == (5, 6)
    assert config == GenerationConfig(**json.loads(json.dumps(dataclasses.asdict(config)))), "a file gives it back"
    assert len({config, dataclasses.replace(config)}) == 1
    assert GenerationConfig(sequence_bias={(1, 2): 0.5}).sequence_bias == (((1, 2), 0.5),)


def test_greedy_keeps_what_is_banned_and_what_is_named_again() -> None:
    base = dataclasses.replace(
        CHAT, min_p=0.1, presence_penalty=1.0, repetition_penalty=1.2, bad_words=["x"], suppress_tokens=[3], seed=4
    )
    greedy = override(base, {"do_sample": False})
    for name in ARGUMENTS:
        kept = base if name in KEPT_BY_GREEDY else GREEDY
        assert getattr(greedy, name) == getattr(kept, name), name
    assert greedy.bad_words == ("x",) and greedy.suppress_tokens == (3,) and greedy.presence_penalty == 0
    named = override(base, {"do_sample": False, "repetition_penalty": 1.3, "presence_penalty": 0.5})
    assert named == dataclasses.replace(greedy, repetition_penalty=1.3, presence_penalty=0.5)
    assert override(base, {"temperature": 0.5}) == dataclasses.replace(base, temperature=0.5)
    assert override(GREEDY, {"do_sample": False, "min_new_tokens": 3}).min_new_tokens == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"sequence_bias": {(1, 97): 1.0}},
        {"logit_bias": {97: 1.0}},
        {"bad_words_ids": [[1], [97, 2]]},
        {"forced_eos_token_id": 97},
    ],
)
def test_ids_beyond_the_vocabulary_are_refused(arguments: dict[str, Any]) -> None:
    config = GenerationConfig(**arguments)
    config.check_token_ids(98)
    with pytest.raises(ValueError, match=f"{next(iter(arguments))}.* below 97 .the vocabulary., found 97"):
        config.check_token_ids(97)


def test_ids_that_only_name_nothing_are_fine() -> None:
    GenerationConfig(suppress_tokens=[10**6], begin_suppress_tokens=[10**6]).check_token_ids(97)


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
