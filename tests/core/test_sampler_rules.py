"""Does each sampling rule, alone and among others, do what transformers' own processors do?

The peer is transformers' `_get_logits_processor`: it decides which processors run, and in which order.
"""

import functools
from typing import Any

import numpy as np
import pytest
from dialocpp import _core
from exact import F32, U, assert_same_bits
from scipy.special import log_softmax, softmax
from scipy.stats import chisquare

distribution, choose = _core.testing.distribution, _core.testing.choose
n_best, top_logprobs = _core.testing.n_best, _core.testing.top_logprobs

V = 203
TOKENS = [3, 9, 7, 3, 9, 12, 5, 3, 9]
PROMPT = 4  # of them are the prompt; the reply holds 9, 12, 5, 3, 9
EOS = [11, 140]

BIASES = {(9,): 2.5, (3, 9, 40): 4.0, (9, 41): -3.0, (8, 42): 9.0, (17,): -1.5, (9, 17): 3.0}

# Under transformers' names.
PROCESSORS: dict[str, dict[str, Any]] = {
    "sequence_bias": {"sequence_bias": BIASES},
    "sequence_bias that bans": {"sequence_bias": {(4,): -np.inf, (3, 9, 6): -np.inf, (3, 8, 7): -np.inf}},
    "repetition": {"repetition_penalty": 1.7},
    "repetition wanted": {"repetition_penalty": 0.6},
    "no_repeat_ngram": {"no_repeat_ngram_size": 2},
    "bad_words_ids": {"bad_words_ids": [[5], [9, 30], [3, 9, 31], [4, 32], [140]]},
    "min_new_tokens": {"min_new_tokens": 6},
    "min_new_tokens passed": {"min_new_tokens": 5},
    "forced_eos": {"forced_eos_token_id": 11, "max_length": len(TOKENS) + 1},
    "forced_eos of two": {"forced_eos_token_id": EOS, "max_length": len(TOKENS) + 1},
    "forced_eos later": {"forced_eos_token_id": 11, "max_length": len(TOKENS) + 2},
    "suppress_tokens": {"suppress_tokens": [*range(50), V + 7]},
}
WARPERS: dict[str, dict[str, Any]] = {
    "temperature": {"temperature": 0.6},
    "top_k": {"top_k": 20},
    "top_p": {"top_p": 0.8},
    "min_p": {"min_p": 0.03},
    "typical_p": {"typical_p": 0.7},
    "epsilon_cutoff": {"epsilon_cutoff": 0.004},
    "eta_cutoff": {"eta_cutoff": 0.003},
}
EDGES: dict[str, dict[str, Any]] = {
    "min_p of all": {"min_p": 1.0},
    "min_p of nothing": {"min_p": 1e-30},
    "typical_p tiny": {"typical_p": 1e-6},
    "typical_p nearly all": {"typical_p": 0.999},
    "epsilon above all": {"epsilon_cutoff": 0.9999},
    "epsilon of nothing": {"epsilon_cutoff": 1e-30},
    "eta above all": {"eta_cutoff": 0.9999},
    "eta of nothing": {"eta_cutoff": 1e-30},
    "cold and typical": {"temperature": 0.1, "typical_p": 0.9},
    "hot and eta": {"temperature": 30.0, "eta_cutoff": 0.01},
}
ALL_PROCESSORS = {
    "sequence_bias": BIASES,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[5], [9, 30]],
    "min_new_tokens": 9,
    "suppress_tokens": [1, 2, 150],
}
ALL_WARPERS = {
    "temperature": 1.6,
    "top_k": 60,
    "top_p": 0.95,
    "min_p": 0.01,
    "typical_p": 0.9,
    "epsilon_cutoff": 0.003,
    "eta_cutoff": 0.004,
}
COMBINATIONS: dict[str, dict[str, Any]] = {
    "all": ALL_PROCESSORS | ALL_WARPERS,
    "all processors": ALL_PROCESSORS,
    "all warpers": ALL_WARPERS,
    "forced after all": ALL_PROCESSORS | {"forced_eos_token_id": 11, "max_length": len(TOKENS) + 1},
    "forced, then suppressed": {"forced_eos_token_id": EOS, "max_length": 10, "suppress_tokens": [11]},
    "forced before min_new_tokens": {"forced_eos_token_id": 11, "max_length": 10, "min_new_tokens": 20},
    "bias, then penalty": {"sequence_bias": {(9,): 5.0, (3,): -5.0}, "repetition_penalty": 2.0},
    "a ban frees room": {"suppress_tokens": list(range(0, V, 2)), "top_k": 9},
} | {
    f"{a} and {b}": WARPERS[a] | WARPERS[b]
    for i, a in enumerate(WARPERS)
    for b in list(WARPERS)[i + 1 :]
}
RULES = PROCESSORS | WARPERS | EDGES | COMBINATIONS
assert len(COMBINATIONS) >= 20


def logits_of(seed: int = 0, size: int = V, spread: float = 3.0) -> F32:
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32) * np.float32(spread)


def rules(**changes: Any) -> _core.SamplingParams:
    """The core's names for transformers' arguments."""
    neutral: dict[str, Any] = {"do_sample": True, "top_k": 0, "reply_start": PROMPT, "eos_token_ids": EOS}
    ours = neutral | changes
    if "forced_eos_token_id" in ours:
        forced = ours.pop("forced_eos_token_id")
        ours["forced_eos_token_ids"] = [forced] if isinstance(forced, int) else forced
    if "sequence_bias" in ours:
        ours["sequence_bias"] = list(ours["sequence_bias"].items())
    if "bad_words_ids" in ours:  # end-of-text alone is no bad word: dialocpp leaves it out in Python
        ours["bad_words_ids"] = [word for word in ours["bad_words_ids"] if word not in [[id_] for id_ in EOS]]
    return _core.SamplingParams(**ours)


def probabilities(logits: F32, tokens: list[int] = TOKENS, **changes: Any) -> np.ndarray:
    return np.array(distribution(rules(**changes), tokens, logits))


@functools.cache
def peer() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=V, n_embd=8, n_layer=1, n_head=1, n_positions=32)
    return transformers.GPT2LMHeadModel(config)


def hugging_face_scores(scores: np.ndarray, tokens: list[int], prompt: int = PROMPT, **changes: Any) -> Any:
    """What transformers makes of a row of scores, as a torch tensor (1, V)."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    defaults = {"do_sample": True, "top_k": 0, "eos_token_id": EOS, "max_length": 100}
    config = transformers.GenerationConfig(**defaults | changes)
    peer()._prepare_special_tokens(config, kwargs_has_attention_mask=True, device="cpu")
    chain = peer()._get_logits_processor(config, input_ids_seq_length=prompt, device="cpu")
    return chain(torch.tensor([tokens]), torch.from_numpy(scores[None].astype(np.float32)))


def hugging_face(logits: F32, tokens: list[int] = TOKENS, **changes: Any) -> np.ndarray:
    return hugging_face_scores(logits, tokens, **changes).double().softmax(dim=-1)[0].numpy()


# Parity


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("seed", range(4))
def test_the_distribution_is_transformers(name: str, seed: int) -> None:
    logits = logits_of(seed)
    actual, expected = probabilities(logits, **RULES[name]), hugging_face(logits, **RULES[name])
    np.testing.assert_array_equal(actual > 0, expected > 0)
    # exp is good to 2 units, its argument (logit / temperature, a bias added) to 1; the sum adds its own roundings.
    largest = (np.abs(logits).max() + 10) * 2 / min(RULES[name].get("temperature", 1), 1)
    np.testing.assert_allclose(actual, expected, rtol=(largest + V / 16 + 12) * U)


@pytest.mark.parametrize("name", RULES)
def test_each_rule_changes_something(name: str) -> None:
    """Else agreement would prove nothing."""
    neutral = {"min_new_tokens passed", "forced_eos later", "min_p of nothing"}
    neutral |= {"epsilon of nothing", "eta of nothing"}
    changed = any(
        (probabilities(logits_of(seed), **RULES[name]) != probabilities(logits_of(seed))).any() for seed in range(4)
    )
    assert changed == (name not in neutral)


@pytest.mark.parametrize("name", [*WARPERS, "all warpers"])
@pytest.mark.parametrize("size", [1, 2, 64, 3001])
def test_warpers_on_other_vocabularies(name: str, size: int) -> None:
    """Warpers alone need no model: transformers' classes take a row of any length."""
    logits = logits_of(size, size, spread=2.0)
    arguments = RULES[name] | ({"top_k": 20} if "top_k" in RULES[name] else {})
    actual = probabilities(logits, [0] * PROMPT, **arguments)
    expected = hugging_face(logits, [0] * PROMPT, **arguments)
    np.testing.assert_array_equal(actual > 0, expected > 0)
    np.testing.assert_allclose(actual, expected, rtol=(60 + size / 16) * U)


@pytest.mark.parametrize("name", ["min_p", "epsilon_cutoff", "eta_cutoff", "typical_p", "min_p of all"])
def test_equals_are_treated_alike(name: str) -> None:
    logits = np.repeat(np.float32([4, 1, 2.5, -3]), 5)
    np.testing.assert_array_equal(
        probabilities(logits, [0] * PROMPT, **RULES[name]) > 0,
        hugging_face(logits, [0] * PROMPT, **RULES[name]) > 0,
    )


@pytest.mark.parametrize("name", WARPERS)
def test_equal_tokens_all_equal(name: str) -> None:
    actual = probabilities(np.full(50, -7, np.float32), [0] * PROMPT, **(RULES[name] | {"top_p": 1.0}))
    np.testing.assert_allclose(actual, 1 / 50, rtol=20 * U)


@pytest.mark.parametrize("name", [*WARPERS, *EDGES, "all warpers"])
@pytest.mark.parametrize("spread", [1e-30, 1e30])
def test_extreme_logits_leave_a_distribution(name: str, spread: float) -> None:
    actual = probabilities(logits_of(2, spread=spread), **RULES[name])
    assert np.isfinite(actual).all() and actual.sum() == pytest.approx(1, rel=1e-4)
    if spread > 1:
        assert actual[logits_of(2).argmax()] == 1


def test_begin_suppress_holds_for_the_first_token_only() -> None:
    logits = logits_of()
    banned = {"begin_suppress_tokens": list(range(60))}
    first = TOKENS[:PROMPT]
    np.testing.assert_array_equal(
        probabilities(logits, first, **banned) > 0, hugging_face(logits, first, **banned) > 0
    )
    assert not probabilities(logits, first, **banned)[:60].any()
    np.testing.assert_array_equal(probabilities(logits, **banned), probabilities(logits))


def test_presence_and_frequency_are_vllms() -> None:
    """Over the reply alone; each id once, and once for each time it occurs."""
    logits = logits_of()
    expected = logits.copy()
    for id_, count in zip(*np.unique(TOKENS[PROMPT:], return_counts=True), strict=True):
        expected[id_] -= np.float32(0.7) * np.float32(count)
        expected[id_] -= np.float32(0.4)
    actual = probabilities(logits, presence_penalty=0.4, frequency_penalty=0.7)
    np.testing.assert_array_equal(actual, probabilities(expected))
    only_prompt = probabilities(logits, TOKENS[:PROMPT], presence_penalty=0.4, frequency_penalty=0.7)
    np.testing.assert_array_equal(only_prompt, probabilities(logits, TOKENS[:PROMPT]))


def test_presence_comes_after_repetition() -> None:
    logits = logits_of()
    penalised = hugging_face_scores(logits, TOKENS, repetition_penalty=1.5)[0].numpy()
    np.testing.assert_array_equal(
        probabilities(logits, repetition_penalty=1.5, presence_penalty=0.4),
        probabilities(penalised, presence_penalty=0.4),
    )


def test_a_long_history_is_counted_right() -> None:
    tokens = np.random.default_rng(1).integers(0, V, 900).tolist()
    arguments = {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "bad_words_ids": [[*tokens[-300:], 8]]}
    actual = probabilities(logits_of(), tokens, **arguments)
    expected = hugging_face(logits_of(), tokens, **arguments)
    np.testing.assert_array_equal(actual > 0, expected > 0)
    np.testing.assert_allclose(actual, expected, rtol=60 * U)
    np.testing.assert_array_equal(actual, probabilities(logits_of(), tokens, **arguments))


def test_ids_beyond_the_vocabulary_do_nothing() -> None:
    far = [V, 2**31 - 1]
    lists = {"suppress_tokens": far, "begin_suppress_tokens": far, "eos_token_ids": far, "min_new_tokens": 9}
    lists |= {"bad_words_ids": [[id_] for id_ in far], "sequence_bias": {(id_,): 3.0 for id_ in far}}
    np.testing.assert_array_equal(probabilities(logits_of(), **lists), probabilities(logits_of()))


# What follows from the distribution


@pytest.mark.parametrize("name", [*WARPERS, "all", "all warpers", "sequence_bias", "suppress_tokens"])
def test_frequencies_are_the_probabilities(name: str) -> None:
    logits, draws = logits_of(5), 40_000
    expected = probabilities(logits, **RULES[name]) * draws
    counts = np.bincount(choose(rules(**RULES[name]), TOKENS, logits, range(draws)), minlength=V)
    assert not counts[expected == 0].any(), "a banned token was drawn"
    # Pearson's approximation wants about five of each; the rare ones are counted together.
    rare = expected < 5
    counts, expected = np.append(counts[~rare], counts[rare].sum()), np.append(expected[~rare], expected[rare].sum())
    if expected[-1] == 0:
        counts, expected = counts[:-1], expected[:-1]
    assert chisquare(counts, expected * draws / expected.sum()).pvalue > 1e-3


@pytest.mark.parametrize("do_sample", [True, False])
def test_bans_of_the_moment_hold_for_every_choice(do_sample: bool) -> None:
    logits = logits_of()
    order = np.argsort(-logits).tolist()
    banned = rules(do_sample=do_sample, suppress_tokens=order[:9])
    assert _core.testing.choose_once(rules(do_sample=False), TOKENS, logits, bans=order[:9]) == order[9]
    np.testing.assert_array_equal(
        distribution(rules(do_sample=do_sample), TOKENS, logits, bans=order[:9]), distribution(banned, TOKENS, logits)
    )
    assert _core.testing.choose_once(rules(do_sample=do_sample, seed=4), TOKENS, logits, bans=[*range(V)]) == EOS[0]


def test_a_choice_by_itself_is_the_engines_choice() -> None:
    logits = logits_of()
    before = logits.copy()
    seeds = range(50)
    chosen = [_core.testing.choose_once(rules(seed=seed, **RULES["all"]), TOKENS, logits) for seed in seeds]
    assert chosen == choose(rules(**RULES["all"]), TOKENS, logits, seeds) and len(set(chosen)) > 3
    assert_same_bits(logits, before)
    for tokens, row in (([V], logits), ([-1], logits), ([1, 2, 3, 4], logits[:0]), ([1], logits)):
        with pytest.raises(ValueError, match="expected"):
            _core.testing.choose_once(rules(), tokens, row)


def test_everything_banned_ends_the_reply() -> None:
    nothing = rules(suppress_tokens=[*range(V)])
    assert choose(nothing, TOKENS, logits_of(), [0, 1]) == [EOS[0]] * 2
    assert not any(distribution(nothing, TOKENS, logits_of()))
    assert n_best(nothing, TOKENS, logits_of(), 5) == []


# Beams and log-probabilities


@pytest.mark.parametrize("name", [*PROCESSORS, "all processors", "forced after all"])
def test_the_n_best_are_transformers_beam_scores(name: str) -> None:
    """Log-softmax first, then the processors on log-probabilities, as `_beam_search` does."""
    torch = pytest.importorskip("torch")
    logits = logits_of(3)
    scores = torch.log_softmax(torch.from_numpy(logits), dim=-1).numpy()
    expected = hugging_face_scores(scores, TOKENS, do_sample=False, **RULES[name])[0].numpy()
    order = [int(id_) for id_ in np.lexsort((np.arange(V), -expected)) if expected[id_] > -np.inf]
    for n in (1, 7, V):
        best = n_best(rules(do_sample=False, **RULES[name]), TOKENS, logits, n)
        assert [id_ for id_, _ in best] == order[:n]
        np.testing.assert_allclose([score for _, score in best], expected[order[:n]], rtol=4 * U, atol=12 * U)


def test_the_n_best_of_equals_go_by_their_id() -> None:
    assert [id_ for id_, _ in n_best(rules(), [0] * 4, np.zeros(40, np.float32), 6)] == [0, 1, 2, 3, 4, 5]
    assert n_best(rules(), [0] * 4, np.zeros(40, np.float32), 0) == []
    found = n_best(rules(), TOKENS, logits_of(), 3, bans=[int(logits_of().argmax())])
    assert [id_ for id_, _ in found] == np.argsort(-logits_of())[1:4].tolist()


@pytest.mark.parametrize("size", [1, 17, 3001])
def test_top_logprobs_are_the_models_own(size: int) -> None:
    logits = logits_of(size, size) - np.float32(60)
    expected = log_softmax(logits.astype(np.float64))
    for n in (0, 1, 5, size + 3):
        found = top_logprobs(logits, n)
        order = np.lexsort((np.arange(size), -logits))[:n]
        assert [id_ for id_, _ in found] == order.tolist()
        np.testing.assert_allclose([score for _, score in found], expected[order], rtol=4 * U, atol=2e-6)
    assert softmax(expected).sum() == pytest.approx(1)


BAD_RULES = [
    ("min_p", [-0.1, 1.1, float("nan")]),
    ("typical_p", [0.0, -0.1, 1.1, float("nan")]),
    ("epsilon_cutoff", [-0.1, 1.0, float("nan")]),
    ("eta_cutoff", [-0.1, 1.0, float("nan")]),
    ("presence_penalty", [-101.0, 101.0, float("nan"), float("inf")]),
    ("frequency_penalty", [-101.0, 101.0, float("nan")]),
    ("sequence_bias", [[((), 1.0)], [((1,), float("nan"))], [((1,), float("inf"))], [((1,), 1e7)]]),
    ("bad_words_ids", [[[]]]),
    ("max_length", [-1]),
]


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_RULES for value in values])
def test_a_rule_out_of_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^expected {name} .*, found "):
        _core.SamplingParams(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"top_q": 1}, "expected the name of a sampling rule, found 'top_q'"),
        ({"top_k": "many"}, "for top_k, found 'many'"),
        ({"top_k": 2**40}, "for top_k, found"),
        ({"suppress_tokens": 5}, "for suppress_tokens, found 5"),
    ],
)
def test_a_rule_of_the_wrong_kind_is_refused_by_name(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        _core.SamplingParams(**arguments)
