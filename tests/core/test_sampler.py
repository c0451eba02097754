"""Are tokens drawn as Hugging Face defines its rules, and at random as mathematics defines it?

`_core.testing.distribution` gives the probabilities that a set of rules leaves; `choose` draws from them.
"""

import itertools
from typing import Any

import numpy as np
import pytest
from dialocpp import BackendError, _core
from exact import F32, U, assert_same_bits
from scipy.special import softmax
from scipy.stats import chisquare, kstest

distribution, choose, uniform = _core.testing.distribution, _core.testing.choose, _core.testing.uniform

V = 203  # no multiple of a vector
TOKENS = [3, 9, 7, 3, 9, 12, 5, 3, 9]  # what was said: the pair (3, 9) was followed by 7 and by 12
PROMPT = 4  # of them are the prompt

NEUTRAL = {"do_sample": True, "top_k": 0}


def logits_of(seed: int = 0, size: int = V, spread: float = 3.0) -> F32:
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32) * np.float32(spread)


def rules(**changes: Any) -> _core.SamplingParams:
    return _core.SamplingParams(**{**NEUTRAL, "reply_start": PROMPT, **changes})


def probabilities(logits: F32, tokens: list[int] = TOKENS, **changes: Any) -> np.ndarray:
    return np.array(distribution(rules(**changes), tokens, logits))


# Hugging Face's order: penalties and bans, then, for sampling alone, temperature, top-k and top-p.
RULES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "cold": {"temperature": 0.35},
    "hot": {"temperature": 4.0},
    "top-k 1": {"top_k": 1},
    "top-k 7": {"top_k": 7},
    "top-k all": {"top_k": V},
    "top-k more than all": {"top_k": 10 * V},
    "top-p tiny": {"top_p": 1e-6},
    "top-p half": {"top_p": 0.5},
    "top-p most": {"top_p": 0.97},
    "repetition": {"repetition_penalty": 1.7},
    "repetition wanted": {"repetition_penalty": 0.6},
    "no word twice": {"no_repeat_ngram_size": 1},
    "no pair twice": {"no_repeat_ngram_size": 2},
    "no triple twice": {"no_repeat_ngram_size": 3},
    "n-gram longer than all": {"no_repeat_ngram_size": len(TOKENS) + 1},
    "too early to end": {"min_new_tokens": 6, "eos_token_ids": [11, 140]},
    "may end": {"min_new_tokens": 5, "eos_token_ids": [11, 140]},
    "k and p": {"top_k": 20, "top_p": 0.8},
    "hot k and p": {"temperature": 1.9, "top_k": 30, "top_p": 0.7},
    "penalty before temperature": {"repetition_penalty": 1.3, "temperature": 0.5, "top_p": 0.9},
    "a ban frees room in top-k": {"no_repeat_ngram_size": 1, "top_k": 5},
    "chat": {
        "temperature": 0.8,
        "top_k": 50,
        "top_p": 0.9,
        "no_repeat_ngram_size": 3,
        "min_new_tokens": 9,
        "eos_token_ids": [11],
        "repetition_penalty": 1.1,
    },
}


def hugging_face(logits: F32, tokens: list[int], **changes: Any) -> np.ndarray:
    """The same rules by transformers' own processors, in the order in which its generate() puts them."""
    torch = pytest.importorskip("torch")
    process = pytest.importorskip("transformers.generation.logits_process")
    args = {
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        "no_repeat_ngram_size": 0,
    }
    args |= {"min_new_tokens": 0, "eos_token_ids": []} | changes
    chain: list[Any] = []
    if args["repetition_penalty"] != 1:
        chain.append(process.RepetitionPenaltyLogitsProcessor(args["repetition_penalty"]))
    if args["no_repeat_ngram_size"]:
        chain.append(process.NoRepeatNGramLogitsProcessor(args["no_repeat_ngram_size"]))
    if args["min_new_tokens"]:
        eos = torch.tensor(args["eos_token_ids"])
        chain.append(
            process.MinNewTokensLengthLogitsProcessor(PROMPT, args["min_new_tokens"], eos, device="cpu")
        )
    if args["temperature"] != 1:
        chain.append(process.TemperatureLogitsWarper(args["temperature"]))
    if args["top_k"]:
        chain.append(process.TopKLogitsWarper(args["top_k"]))
    if args["top_p"] < 1:
        chain.append(process.TopPLogitsWarper(args["top_p"]))
    scores = torch.from_numpy(logits[None].copy())
    for step in chain:
        scores = step(torch.tensor([tokens]), scores)
    return torch.softmax(scores.double(), dim=-1)[0].numpy()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_the_distribution_is_hugging_faces(name: str, seed: int) -> None:
    logits = logits_of(seed)
    actual, expected = probabilities(logits, **RULES[name]), hugging_face(logits, TOKENS, **RULES[name])
    np.testing.assert_array_equal(actual > 0, expected > 0)
    # exp is good to 2 units, its argument to 1/2; the sum adds the roundings of V/16 additions and the tree.
    largest = np.abs(logits).max() * 2 / RULES[name].get("temperature", 1)
    np.testing.assert_allclose(actual, expected, rtol=(largest + V / 16 + 12) * U)


@pytest.mark.parametrize("name", sorted(RULES.keys() - {"nothing", "top-k all", "top-k more than all"}))
def test_every_rule_changes_something(name: str) -> None:
    """Else agreement would prove nothing."""
    neutral = {"n-gram longer than all", "may end"}
    changed = any(
        (probabilities(logits_of(seed), **RULES[name]) != probabilities(logits_of(seed))).any()
        for seed in range(4)
    )
    assert changed == (name not in neutral)


def test_penalties_look_at_their_scope_only() -> None:
    logits = logits_of()
    for changes in ({"repetition_penalty": 1.7}, {"no_repeat_ngram_size": 1}):
        scoped = probabilities(logits, penalty_start=PROMPT, **changes)
        np.testing.assert_array_equal(
            scoped, probabilities(logits, TOKENS[PROMPT:], reply_start=0, **changes)
        )
        assert (scoped != probabilities(logits, **changes)).any()
        np.testing.assert_array_equal(
            probabilities(logits, penalty_start=len(TOKENS), **changes), probabilities(logits)
        )


def test_a_token_is_penalised_once_however_often_it_was_said() -> None:
    logits = logits_of()
    once = probabilities(logits, [3, 9], reply_start=0, repetition_penalty=1.5)
    np.testing.assert_array_equal(
        once, probabilities(logits, [3, 9, 3, 3, 9], reply_start=0, repetition_penalty=1.5)
    )


# Top-k and top-p at their edges


def test_equals_of_the_kth_stay() -> None:
    """As transformers does it: what is not less than the k-th largest."""
    logits = np.float32([1, 3, 3, 2, 3, 0, 2])
    for k, kept in ((1, [1, 2, 4]), (3, [1, 2, 4]), (4, [1, 2, 3, 4, 6]), (6, [0, 1, 2, 3, 4, 6])):
        actual = probabilities(logits, [], reply_start=0, top_k=k)
        assert np.flatnonzero(actual).tolist() == kept
        np.testing.assert_array_equal(actual > 0, hugging_face(logits, [0], top_k=k) > 0)


@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 64, 1000, 5003])
def test_top_k_keeps_the_largest_of_any_vocabulary(size: int) -> None:
    orders = {"random": lambda x: x, "rising": np.sort, "falling": lambda x: np.sort(x)[::-1].copy()}
    for k, order in itertools.product({1, 2, size // 2, size - 1, size, size + 1} - {0}, orders.values()):
        logits = order(logits_of(size, size))
        actual = probabilities(logits, [], reply_start=0, top_k=k)
        expected = np.sort(np.argsort(logits)[-k:])
        np.testing.assert_array_equal(np.flatnonzero(actual), expected)
        np.testing.assert_allclose(
            actual[expected], softmax(logits[expected].astype(np.float64)), rtol=500 * U
        )


@pytest.mark.parametrize("p", [1e-9, 0.1, 0.5, 0.9, 0.999, 0.9999999])
@pytest.mark.parametrize("size", [1, 3, 17, 500, 5003])
def test_top_p_is_the_smallest_set_that_reaches_p(p: float, size: int) -> None:
    logits = logits_of(size, size, spread=1.0)
    kept = np.flatnonzero(probabilities(logits, [], reply_start=0, top_p=p))
    exact = softmax(logits.astype(np.float64))
    assert exact[kept].sum() >= p - 1e-6
    assert exact[kept].sum() - exact[kept].min() < p + 1e-6, "one less would do"
    assert exact[kept].min() >= np.delete(exact, kept).max(initial=0), "the most probable ones"


def test_equal_tokens_at_the_edge_of_top_p_go_by_their_id() -> None:
    actual = probabilities(np.zeros(100, np.float32), [], reply_start=0, top_p=0.25)
    assert np.flatnonzero(actual).tolist() == list(range(25))


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-30, 1e-6, 1e-3])
def test_a_very_small_temperature_is_greedy(temperature: float) -> None:
    logits = logits_of(1)
    for more in ({}, {"top_k": 5}, {"top_p": 0.9}):
        assert probabilities(logits, temperature=temperature, **more)[logits.argmax()] == 1


@pytest.mark.parametrize("temperature", [1e6, 1e30])
def test_a_very_large_temperature_is_uniform(temperature: float) -> None:
    np.testing.assert_allclose(probabilities(logits_of(1), temperature=temperature), 1 / V, rtol=1e-4)


# Greedy


def test_greedy_takes_the_largest_and_of_equals_the_first() -> None:
    for size in (1, 2, 17, V):
        logits = logits_of(size, size)
        assert choose(rules(do_sample=False), TOKENS[:0], logits, [0]) == [int(logits.argmax())]
    assert choose(rules(do_sample=False), [], np.float32([1, 4, 4, 2]), [0]) == [1]


def test_greedy_obeys_penalties_and_ignores_warpers() -> None:
    logits = np.float32([0, 5, 4, 3])
    greedy = {"do_sample": False, "reply_start": 0, "temperature": 1e-3, "top_k": 1, "top_p": 0.1}
    assert choose(rules(**greedy), [1], logits, [0]) == [1]
    assert choose(rules(**greedy, no_repeat_ngram_size=1), [1], logits, [0]) == [2]
    assert choose(rules(**greedy, repetition_penalty=2.0), [1], logits, [0]) == [2]
    assert choose(rules(**greedy, min_new_tokens=2, eos_token_ids=[1, 2]), [0], logits, [0]) == [3]
    assert np.flatnonzero(distribution(rules(**greedy), [1], logits)).tolist() == [1]


# Randomness


@pytest.mark.parametrize("name", RULES)
def test_frequencies_are_the_probabilities(name: str) -> None:
    logits = logits_of(5)
    draws = 4000
    expected = probabilities(logits, **RULES[name]) * draws
    counts = np.bincount(choose(rules(**RULES[name]), TOKENS, logits, range(draws)), minlength=V)
    assert not counts[expected == 0].any(), "a banned token was drawn"
    # Pearson's approximation wants about five of each; the rare ones are counted together.
    rare = (expected > 0) & (expected < 5)
    counts = np.append(counts[expected >= 5], counts[rare].sum())
    expected = np.append(expected[expected >= 5], expected[rare].sum())
    if rare.sum() == 0 or expected[-1] == 0:
        counts, expected = counts[:-1], expected[:-1]
    if len(counts) == 1:
        assert counts[0] == draws
    else:
        assert chisquare(counts, expected * draws / expected.sum()).pvalue > 1e-3


def test_the_chi_square_would_notice_a_wrong_temperature() -> None:
    logits = logits_of(5, 12, spread=1.0)
    draws = 4000
    counts = np.bincount(choose(rules(temperature=1.15), TOKENS[:PROMPT], logits, range(draws)), minlength=12)
    expected = probabilities(logits, TOKENS[:PROMPT]) * draws
    assert chisquare(counts, expected * draws / expected.sum()).pvalue < 1e-3


def test_uniform_numbers_are_uniform_along_seeds_and_along_positions() -> None:
    streams = [
        [uniform(seed, 0) for seed in range(4000)],
        [uniform(7, position) for position in range(4000)],
        [uniform(i << 32, i) for i in range(4000)],
        [uniform(2**64 - 1 - i, 2**64 - 1) for i in range(4000)],
    ]
    for stream in streams:
        assert min(stream) >= 0 and max(stream) < 1
        assert kstest(stream, "uniform").pvalue > 1e-3
        # Neighbours are independent: their pairs fill the square evenly.
        cells = np.histogram2d(stream[::2], stream[1::2], bins=8, range=[[0, 1], [0, 1]])[0]
        assert chisquare(cells.ravel()).pvalue > 1e-3


def test_streams_of_neighbouring_seeds_do_not_overlap() -> None:
    numbers = [uniform(seed, position) for seed in range(100) for position in range(100)]
    assert len(set(numbers)) == len(numbers)


def test_a_draw_depends_on_the_seed_and_the_place_in_the_reply_alone() -> None:
    """Not on the prompt's length, on earlier draws, or on what else is drawn."""
    logits = logits_of(3)
    seeds = list(range(50))
    expected = choose(rules(reply_start=2), [1, 2, 3], logits, seeds)
    assert len(set(expected)) > 10
    assert choose(rules(reply_start=0), [8], logits, seeds) == expected
    assert choose(rules(reply_start=5), [9] * 6, logits, seeds[::-1]) == expected[::-1]
    assert [choose(rules(reply_start=2), [1, 2, 3], logits, [seed])[0] for seed in seeds] == expected
    assert choose(rules(reply_start=2), [1, 2, 3, 4], logits, seeds) != expected


def test_a_draw_inverts_the_cumulated_probabilities() -> None:
    logits = logits_of(4, 9)
    edges = np.cumsum(probabilities(logits, [], reply_start=0))
    seeds = range(500)
    numbers = np.array([uniform(seed, 0) for seed in seeds])
    assert np.abs(numbers[:, None] - edges).min() > 100 * U, "a number on an edge would need exact sums"
    assert choose(rules(reply_start=0), [], logits, seeds) == np.searchsorted(edges, numbers).tolist()


# What cannot be drawn from


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 15, 16, V - 1])
def test_logits_that_are_no_numbers_are_an_error(bad: float, place: int) -> None:
    logits = logits_of()
    logits[place] = bad
    for do_sample in (True, False):
        with pytest.raises(BackendError, match="expected finite"):
            choose(rules(do_sample=do_sample), TOKENS, logits, [0])
        with pytest.raises(BackendError, match="expected finite"):
            distribution(rules(do_sample=do_sample), TOKENS, logits)


def test_when_every_token_is_banned_the_reply_ends() -> None:
    logits = logits_of(0, 4)
    banned = {"no_repeat_ngram_size": 1, "reply_start": 0, "eos_token_ids": [2]}
    assert choose(rules(**banned), [0, 1, 2, 3], logits, [0, 1, 2]) == [2, 2, 2]
    assert not any(distribution(rules(**banned), [0, 1, 2, 3], logits))
    assert choose(rules(**banned, do_sample=False), [0, 1, 2, 3], logits, [0]) == [2]


def test_huge_logits_keep_their_order() -> None:
    logits = np.float32([3e38, -3e38, 2.9e38, 0])
    assert probabilities(logits, [], reply_start=0).tolist() == [1, 0, 0, 0]
    assert probabilities(logits, [], reply_start=0, temperature=1e-10).tolist() == [1, 0, 0, 0]
    assert probabilities(logits / 1e7, [0], reply_start=0, repetition_penalty=1e-6).tolist() == [1, 0, 0, 0]


def test_the_callers_logits_are_left_alone() -> None:
    logits = logits_of()
    before = logits.copy()
    distribution(rules(**RULES["chat"]), TOKENS, logits)
    choose(rules(**RULES["chat"]), TOKENS, logits, range(9))
    assert_same_bits(logits, before)


BAD_RULES = [
    ("temperature", [0.0, -1.0, float("nan"), float("inf")]),
    ("top_k", [-1]),
    ("top_p", [0.0, -0.1, 1.1, float("nan")]),
    ("repetition_penalty", [0.0, -1.0, 1e-7, 1e7, float("nan"), float("inf")]),
    ("no_repeat_ngram_size", [-1]),
    ("min_new_tokens", [-1]),
    ("reply_start", [-1]),
    ("penalty_start", [-1]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_RULES for value in values])
def test_a_rule_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^expected {name} .*, found "):
        _core.SamplingParams(**{name: value})
