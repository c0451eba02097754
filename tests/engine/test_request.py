"""Does a reply end, tell its log-probabilities and ask its caller's function as its rules say, in whatever company?"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import GenerationConfig, Model
from dialocpp.engine.job import Prefill
from dialocpp.engine.request import RUN_AHEAD, Request
from numpy.typing import NDArray
from scipy.special import log_softmax
from sentences import one_sentence

EOS = 300
PROMPTS = ["Hello!<|endoftext|>", "Do you like music?<|endoftext|>", "What now?<|endoftext|>"]


@pytest.fixture(scope="module", params=["float32", "int8"])
def model(request: pytest.FixtureRequest, wide_folder: Path) -> Model:
    return Model.from_pretrained(wide_folder, dtype=request.param)


@pytest.fixture(scope="module")
def bundled() -> Model:
    return Model.from_pretrained()


def ids(count: int, seed: int = 0, vocab: int = EOS) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocab, count).tolist()


def test_a_reading_is_what_the_next_job_need_not_read(model: Model) -> None:
    sequence, prompt = model.runtime.new_sequence(), ids(50)
    model.runtime.run([Prefill(sequence, prompt)])
    assert sequence.tokens == prompt
    reading = Prefill(sequence, prompt[:20] + ids(9, seed=4))
    model.runtime.run([reading])
    assert (reading.cached_tokens, len(sequence)) == (20, 29)


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


def test_sequences_of_one_prompt_are_those_of_their_seeds(model: Model) -> None:
    prompts = [ids(40), ids(7, seed=1)]
    rules: dict[str, Any] = {"do_sample": True, "top_k": 20, "max_new_tokens": 12}
    together = model.generate(prompts, num_return_sequences=3, seed=10, **rules)
    alone = [model.generate(prompts[i // 3], seed=10 + i, **rules)[0] for i in range(6)]
    assert [g.token_ids for g in together] == [g.token_ids for g in alone]
    assert [g.seed for g in together] == list(range(10, 16))
    assert len({g.token_ids for g in together[:3]}) > 1
    assert model.kv_bytes_in_use == 0


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


def test_a_deadline_ends_a_reply_after_a_token(model: Model) -> None:
    reply = model.generate(ids(9), max_new_tokens=50, min_new_tokens=50, max_time=0.0)[0]
    assert (reply.finish_reason, len(reply.token_ids)) == ("max_time", 1)
    assert model.generate(ids(9), max_new_tokens=5, min_new_tokens=5, max_time=1e6)[0].finish_reason == "length"
    rules = {"max_new_tokens": 50, "min_new_tokens": 50, "max_time": 0.0}
    beams = model.generate(ids(9), num_beams=3, num_return_sequences=3, **rules)
    assert [(len(b.token_ids), b.finish_reason) for b in beams] == [(1, "max_time")] * 3


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
    with pytest.raises(ValueError, match=r"expected .*\(301,\) from logits_processor.*\(3,\)"):
        model.generate(ids(9), logits_processor=lambda t, logits: logits[:3])
    assert model.kv_bytes_in_use == 0
    assert model.generate(ids(9), max_new_tokens=3)[0].token_ids


@pytest.mark.parametrize("arguments", [{}, {"do_sample": True, "num_return_sequences": 2, "seed": 1}])
def test_a_batch_stays_together_to_its_end(
    bundled: Model, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    sizes: list[int] = []
    engine = bundled.runtime.engine

    class Counting:
        def step(self, work: Any) -> Any:
            sizes.append(len(work))
            return engine.step(work)

    monkeypatch.setattr(bundled.runtime.scheduler, "engine", Counting())
    length = 2 * RUN_AHEAD + 5
    replies = bundled.generate(PROMPTS, max_new_tokens=length, min_new_tokens=length, **arguments)
    assert sizes[-length:] == [len(replies)] * length


def test_a_hook_that_runs_the_same_model_is_told_so(bundled: Model) -> None:
    def hook(tokens: list[int], logits: Any) -> None:
        bundled.generate([1, 2, 3], max_new_tokens=1)

    with one_sentence(RuntimeError, "another Model in it"):
        bundled.generate([5], logits_processor=hook)
    plain = bundled.generate([5], max_new_tokens=4)[0].token_ids
    looked = bundled.generate([5], max_new_tokens=4, logits_processor=lambda ids, row: bundled.logits(ids)[-1])
    assert looked[0].token_ids == plain


def test_a_hook_must_not_force_by_infinity(bundled: Model) -> None:
    def hook(tokens: list[int], logits: Any) -> None:
        logits[9] = np.inf

    with one_sentence(ValueError, "to force a token, ban the others"):
        bundled.generate([5], logits_processor=hook)


def test_a_plan_that_fails_is_its_owners_alone(bundled: Model) -> None:
    runtime, config = bundled.runtime, GenerationConfig(max_new_tokens=9)

    def request(prompt: list[int]) -> Request:
        return runtime.request(runtime.new_sequence(), prompt, config, seed=3, penalty_start=0)

    expected = request([5, 6])
    runtime.run([expected])
    broken, fine = request([7]), request([5, 6])
    broken.rules = dataclasses.replace(broken.rules, bans=lambda generated: [1 // 0])
    with runtime.running([broken, fine]) as scheduler:
        scheduler.finish(fine)
        assert fine.generated == expected.generated
        with pytest.raises(ZeroDivisionError):
            scheduler.next_token(broken)


@pytest.mark.parametrize("eos", [-1, 2**31 - 1, [2**31 - 1, 3]])
def test_the_end_is_a_token_of_the_vocabulary(bundled: Model, eos: Any) -> None:
    everything = list(range(bundled.config.vocab_size))
    for more in ({"top_logprobs": 0}, {"do_sample": True}):
        reply = bundled.generate([5], eos_token_id=eos, suppress_tokens=everything, max_new_tokens=3, **more)[0]
        assert set(reply.token_ids) <= {0, 3}
