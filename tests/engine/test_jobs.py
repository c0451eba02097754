"""Scores, log-probabilities, stop strings, deadlines, hooks: what one can ask beside the next token."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import Model
from dialocpp.engine.job import Prefill
from dialocpp.engine.scoring import Scoring, score_after, score_texts
from dialocpp.text.stop_strings import StopStrings, cut
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import log_softmax
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


# Scores: the same bits, however they are come by.


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


def test_a_reading_is_what_the_next_job_need_not_read(model: Model) -> None:
    sequence, prompt = model.runtime.new_sequence(), ids(50)
    model.runtime.run([Prefill(sequence, prompt)])
    assert sequence.tokens == prompt
    reading = Prefill(sequence, prompt[:20] + ids(9, seed=4))
    model.runtime.run([reading])
    assert (reading.cached_tokens, len(sequence)) == (20, 29)


# Log-probabilities of what was chosen: of the model itself, before the rules.


@pytest.mark.parametrize("rules", [{}, {"do_sample": True, "seed": 3, "temperature": 0.7, "repetition_penalty": 1.3}])
def test_logprobs_are_those_before_the_rules(model: Model, rules: dict[str, Any]) -> None:
    prompt = ids(12)
    reply = model.generate(prompt, max_new_tokens=8, top_logprobs=4, **rules)[0]
    generated = [entry.token_id for entry in reply.logprobs]
    assert tuple(generated[: len(reply.token_ids)]) == reply.token_ids
    expected = log_softmax(model.logits(prompt + generated)[len(prompt) - 1 : -1].astype(np.float64), axis=-1)
    for entry, row in zip(reply.logprobs, expected, strict=True):
        assert entry.logprob == pytest.approx(row[entry.token_id], abs=1e-5)
        best = np.argsort(-row, kind="stable")[:4]
        assert [token for token, _ in entry.top] == best.tolist()
        assert [value for _, value in entry.top] == pytest.approx(row[best].tolist(), abs=1e-5)
    plain = model.generate(prompt, max_new_tokens=8, **rules)[0]
    assert plain.token_ids == reply.token_ids and plain.logprobs == ()


# Several on one prompt


def test_sequences_of_one_prompt_are_those_of_their_seeds(model: Model) -> None:
    prompts = [ids(40), ids(7, seed=1)]
    rules: dict[str, Any] = {"do_sample": True, "top_k": 20, "max_new_tokens": 12}
    together = model.generate(prompts, num_return_sequences=3, seed=10, **rules)
    alone = [model.generate(prompts[i // 3], seed=10 + i, **rules)[0] for i in range(6)]
    assert [g.token_ids for g in together] == [g.token_ids for g in alone]
    assert [g.seed for g in together] == list(range(10, 16))
    assert len({g.token_ids for g in together[:3]}) > 1
    assert model.kv_bytes_in_use == 0


# Stop strings


def test_a_stop_string_ends_the_reply_and_is_not_part_of_it(model: Model) -> None:
    prompt = ids(9)
    rules: dict[str, Any] = {"max_new_tokens": 30, "do_sample": True, "seed": 5}
    whole = model.generate(prompt, **rules)[0]
    for start, end in ((3, 6), (0, 1), (7, 8)):
        stop = whole.text[start:end]
        reply = model.generate(prompt, stop_strings=["never in there!", stop], **rules)[0]
        assert reply.finish_reason == "stop"
        assert reply.text == whole.text[: whole.text.index(stop)]
        assert reply.token_ids == whole.token_ids[: len(reply.token_ids)]
        assert stop in model.tokenizer.decode(reply.token_ids)
        assert stop not in model.tokenizer.decode(reply.token_ids[:-1]), "it ends at the token that completes it"
    assert model.generate(prompt, stop_strings="never in there!", **rules)[0].text == whole.text


def test_stop_strings_are_those_of_transformers(wide_folder: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    ours = Model.from_pretrained(wide_folder, dtype="float32")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(wide_folder / "tokenizer.json"))
    peer = transformers.GPT2LMHeadModel.from_pretrained(wide_folder).eval()
    stopped = 0
    for seed in range(30):
        prompt = ids(10, seed=seed)
        inputs = torch.tensor([prompt])
        # transformers matches tokens against the stop strings' bytes: only ASCII is the same text to both.
        said = [piece for piece in ours.generate(prompt, max_new_tokens=20)[0].text if " " < piece < "\x7f"]
        arguments: dict[str, Any] = {"max_new_tokens": 20, "stop_strings": ["Z!", said[-1] if said else "x"]}
        with torch.no_grad():
            out = peer.generate(
                inputs, attention_mask=torch.ones_like(inputs), pad_token_id=EOS, tokenizer=tokenizer, **arguments
            )[0].tolist()[len(prompt) :]
        reply = ours.generate(prompt, **arguments)[0]
        assert list(reply.token_ids) == out[: len(reply.token_ids)]
        assert len(out) - len(reply.token_ids) == (reply.finish_reason == "eos")
        stopped += reply.finish_reason == "stop"
    assert stopped >= 5


@given(st.text("abc", max_size=30), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_pieces_are_cut_where_the_whole_is(text: str, strings: list[str], data: st.DataObject) -> None:
    def before_the_first(come: str) -> str:
        return come[: min((come.find(s) for s in strings if s in come), default=len(come))]

    assert cut(text, strings) == before_the_first(text)
    stops, shown, come = StopStrings(strings), "", ""
    while come != text and not stops.found:  # the text ends with the piece that completes a stop string
        size = data.draw(st.integers(1, len(text) - len(come)))
        shown += stops.push(text[len(come) : len(come) + size])
        come = text[: len(come) + size]
        assert before_the_first(come).startswith(shown), "nothing is shown that would have to be taken back"
        assert stops.found == any(s in come for s in strings)
        held = len(come) - len(shown)
        assert stops.found or held < max(map(len, strings), default=1), "no more is held back than can matter"
    assert stops.push(text[len(come) :]) == "" if stops.found else come == text
    assert shown + stops.flush() == before_the_first(come)


# Deadlines


def test_a_deadline_ends_a_reply_after_a_token(model: Model) -> None:
    reply = model.generate(ids(9), max_new_tokens=50, min_new_tokens=50, max_time=0.0)[0]
    assert (reply.finish_reason, len(reply.token_ids)) == ("max_time", 1)
    assert model.generate(ids(9), max_new_tokens=5, min_new_tokens=5, max_time=1e6)[0].finish_reason == "length"
    rules = {"max_new_tokens": 50, "min_new_tokens": 50, "max_time": 0.0}
    beams = model.generate(ids(9), num_beams=3, num_return_sequences=3, **rules)
    assert [(len(b.token_ids), b.finish_reason) for b in beams] == [(1, "max_time")] * 3


# A function on the logits


def test_a_logits_processor_sees_what_the_rules_left_and_has_the_last_word(model: Model) -> None:
    prompt, seen = ids(9), []

    def processor(tokens: list[int], logits: NDArray[np.float32]) -> None:
        seen.append(list(tokens))
        assert np.isneginf(logits[EOS]) == (len(tokens) < len(prompt) + 3), "min_new_tokens comes before"
        logits[:] = -math.inf
        logits[[5, 6]] = [1.0, 2.0]

    reply = model.generate(prompt, logits_processor=processor, max_new_tokens=5, min_new_tokens=3)[0]
    assert reply.token_ids == (6, 6, 6, 6, 6)
    assert seen == [prompt + [6] * n for n in range(5)]
    drawn = model.generate(
        prompt, logits_processor=processor, max_new_tokens=200 - 60, min_new_tokens=3, do_sample=True, seed=1
    )[0]
    assert set(drawn.token_ids) == {5, 6}


def test_an_idle_logits_processor_changes_nothing(model: Model) -> None:
    for rules in ({}, {"do_sample": True, "seed": 4, "temperature": 0.8, "top_p": 0.9, "repetition_penalty": 1.2}):
        plain = model.generate(ids(9), max_new_tokens=12, **rules)[0]
        hooked = model.generate(ids(9), max_new_tokens=12, logits_processor=lambda t, logits: logits, **rules)[0]
        assert hooked.token_ids == plain.token_ids


def test_an_error_in_a_logits_processor_is_the_callers_alone(model: Model) -> None:
    def broken(tokens: list[int], logits: NDArray[np.float32]) -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        model.generate(ids(9), logits_processor=broken)
    with pytest.raises(ValueError, match=r"logits_processor must give .*\(301,\).*\(3,\)"):
        model.generate(ids(9), logits_processor=lambda t, logits: logits[:3])
    assert model.kv_bytes_in_use == 0
    assert model.generate(ids(9), max_new_tokens=3)[0].token_ids
