"""Does Model.generate give each prompt what it would get alone, what transformers gives, or a clear error?"""

import gc
import itertools
import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import BackendError, CapacityError, Generation, GenerationConfig, Model
from dialocpp.engine import scheduler
from exact import U, assert_same_bits
from sentences import one_sentence
from small_models import Gpt2, gpt2_config, random_gpt2, write_checkpoint

SAMPLING = {"do_sample": True, "temperature": 1.1, "top_k": 40, "top_p": 0.95, "no_repeat_ngram_size": 3}
DECODINGS = {"greedy": {}, "sampling": SAMPLING}
PROMPTS = [
    "Hello, how are you?",
    "a",
    "What is the best way to buy happiness ?",
    "tea or coffee",
    "x y z " * 8,
]


@pytest.fixture(scope="module")
def tiny_model(tiny_folder: Path) -> Model:
    return Model.from_pretrained(tiny_folder, dtype="float32", num_threads=1)


@pytest.fixture(scope="module")
def wide_folder(save_folder: Callable[[Gpt2], Path]) -> Path:
    """Prompts of many KV pages; greedy replies end early, late or not at all."""
    sizes = {"vocab_size": 301, "n_positions": 160, "n_embd": 160, "n_layer": 3, "n_head": 2}
    return save_folder(random_gpt2(gpt2_config(**sizes), seed=1, end_lift=1.5))


@pytest.fixture(scope="module")
def wide_models(wide_folder: Path) -> dict[str, Model]:
    return {
        f"{dtype} on {threads}": Model.from_pretrained(wide_folder, dtype=dtype, num_threads=threads)
        for dtype in ("float32", "int8")
        for threads in (1, 2)
    }


@pytest.fixture(scope="module")
def long_model(save_folder: Callable[[Gpt2], Path]) -> Model:
    """A prompt can be longer than two steps of the scheduler."""
    sizes = {"vocab_size": 97, "n_positions": 640, "n_embd": 32, "n_layer": 2, "n_head": 2}
    return Model.from_pretrained(save_folder(random_gpt2(gpt2_config(**sizes), seed=5)), num_threads=2)


def ids_of(generations: list[Generation]) -> list[tuple[int, ...]]:
    return [generation.token_ids for generation in generations]


# The same for every company


@pytest.mark.parametrize("decoding", DECODINGS)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_alone_in_a_batch_and_on_two_threads(
    wide_models: dict[str, Model], dtype: str, decoding: str
) -> None:
    """Prompt i of a batch has seed + i."""
    model, other = wide_models[f"{dtype} on 1"], wide_models[f"{dtype} on 2"]
    arguments = {"seed": 11, "max_new_tokens": 24, **DECODINGS[decoding]}
    batch = ids_of(model.generate(PROMPTS, **arguments))
    assert len(set(batch)) == len(batch)
    alone = [
        ids_of(model.generate(prompt, **{**arguments, "seed": 11 + i}))[0] for i, prompt in enumerate(PROMPTS)
    ]
    assert batch == alone
    assert ids_of(other.generate(PROMPTS, **arguments)) == batch
    for last in range(1, len(PROMPTS)):
        assert ids_of(other.generate(PROMPTS[:last], **arguments)) == batch[:last]
    many = ids_of(model.generate([*PROMPTS, *(["noise"] * 12)], **arguments))
    assert many[: len(PROMPTS)] == batch


def test_the_decodings_differ_and_so_do_the_seeds(wide_models: dict[str, Model]) -> None:
    """Else equality would prove nothing."""
    model = wide_models["float32 on 1"]
    length = {"min_new_tokens": 12, "max_new_tokens": 24}
    greedy = ids_of(model.generate(PROMPTS, **length))
    sampled = [ids_of(model.generate(PROMPTS, seed=seed, **length, **SAMPLING)) for seed in range(3)]
    for i in range(len(PROMPTS)):
        assert len({greedy[i], *(batch[i] for batch in sampled)}) == 4


def test_one_prompt_with_neighbouring_seeds(wide_models: dict[str, Model]) -> None:
    model = wide_models["int8 on 2"]
    length = {"min_new_tokens": 12, "max_new_tokens": 12}
    batch = model.generate(["hi there"] * 6, seed=2**64 - 3, **length, **SAMPLING)
    assert [generation.seed for generation in batch] == [2**64 - 3, 2**64 - 2, 2**64 - 1, 0, 1, 2]
    assert len(set(ids_of(batch))) == 6
    for generation in batch:
        again = model.generate("hi there", seed=generation.seed, **length, **SAMPLING)
        assert ids_of(again) == [generation.token_ids]


def test_without_a_seed_each_call_has_its_own(tiny_model: Model) -> None:
    first, second = (tiny_model.generate("Hello", max_new_tokens=20, do_sample=True)[0] for _ in range(2))
    assert first.seed != second.seed and first.token_ids != second.token_ids


@pytest.mark.parametrize("length", [255, 256, 257, 600])
def test_a_long_prompt_in_any_steps(long_model: Model, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(length)
    prompts = [rng.integers(0, 96, size).tolist() for size in (length, 3, length - 40)]
    arguments = {"seed": 3, "max_new_tokens": 10, **SAMPLING}
    expected = ids_of(long_model.generate(prompts, **arguments))
    for budget in (37, 256, 5000):
        monkeypatch.setattr(scheduler, "STEP_TOKENS", budget)
        assert ids_of(long_model.generate(prompts, **arguments)) == expected


def test_from_many_threads(wide_models: dict[str, Model]) -> None:
    model = wide_models["float32 on 2"]
    arguments = {"max_new_tokens": 16, **SAMPLING}
    expected = [ids_of(model.generate(PROMPTS, seed=seed, **arguments)) for seed in range(6)]
    found: dict[int, list[tuple[int, ...]]] = {}

    def generate(seed: int) -> None:
        found[seed] = ids_of(model.generate(PROMPTS, seed=seed, **arguments))

    threads = [threading.Thread(target=generate, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed] for seed in range(6)] == expected


# What a prompt may be, and what comes back


def test_every_form_of_a_prompt(tiny_model: Model) -> None:
    ids = tiny_model.tokenizer.encode("Hello you")
    expected = tiny_model.generate("Hello you")[0].token_ids
    for prompt in (ids, tuple(ids), np.array(ids), np.array(ids, dtype=np.int32)):
        assert ids_of(tiny_model.generate(prompt)) == [expected]
    for batch in (["Hello you"], [ids], [tuple(ids)], [np.array(ids)], np.array([ids]), ("Hello you",)):
        assert ids_of(tiny_model.generate(batch)) == [expected]
    assert ids_of(tiny_model.generate(["Hello you", ids, "Hello you"])) == [expected] * 3
    assert tiny_model.generate([]) == []


def test_a_prompt_may_name_special_tokens(tiny_model: Model) -> None:
    ids = [*tiny_model.tokenizer.encode("Hi"), tiny_model.tokenizer.eos_token_id]
    assert ids_of(tiny_model.generate("Hi<|endoftext|>")) == ids_of(tiny_model.generate(ids))


def test_what_comes_back(tiny_model: Model) -> None:
    (generation,) = tiny_model.generate("Hello", max_new_tokens=7, seed=5)
    assert generation.text == str(generation) == tiny_model.tokenizer.decode(generation.token_ids)
    assert (generation.finish_reason, generation.seed, len(generation.token_ids)) == ("length", 5, 7)
    usage = generation.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) == (5, 0, 7)
    assert usage.generated_tokens == 7
    assert 0 < generation.timings.time_to_first_token <= generation.timings.total


def test_a_config_holds_arguments_and_a_call_overrides_them(tiny_model: Model) -> None:
    config = GenerationConfig(max_new_tokens=5, seed=3, **SAMPLING)
    expected = ids_of(tiny_model.generate("Hello", max_new_tokens=5, seed=3, **SAMPLING))
    assert ids_of(tiny_model.generate("Hello", config)) == expected
    longer = tiny_model.generate("Hello", config, max_new_tokens=9)[0].token_ids
    assert longer[:5] == expected[0] and len(longer) == 9
    greedy = ids_of(tiny_model.generate("Hello", config, do_sample=False))
    assert greedy == ids_of(tiny_model.generate("Hello", max_new_tokens=5))


def test_all_positions_can_be_used(tiny_model: Model) -> None:
    positions = tiny_model.config.n_positions
    for length in (1, positions - 1, positions):
        (generation,) = tiny_model.generate([5] * length, max_new_tokens=10**12, eos_token_id=[])
        assert generation.finish_reason == "length"
        assert len(generation.token_ids) == positions - length + 1
        expected = tiny_model.logits([5] * length + list(generation.token_ids[:-1]))[length - 1 :].argmax(
            axis=1
        )
        assert generation.token_ids == tuple(expected)


# Greedy parity with transformers

GREEDY_ARGUMENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "repetition_penalty": {"repetition_penalty": 1.4},
    "no_repeat_ngram_size": {"no_repeat_ngram_size": 2},
    "no word twice": {"no_repeat_ngram_size": 1},
    "min_new_tokens": {"min_new_tokens": 25},
    "one eos": {"eos_token_id": 272},
    "many eos": {"eos_token_id": [71, 130, 260, 300]},
    "many eos, not yet": {"eos_token_id": [71, 130, 260, 300], "min_new_tokens": 12},
    "all": {
        "repetition_penalty": 1.2,
        "no_repeat_ngram_size": 3,
        "min_new_tokens": 8,
        "eos_token_id": [5, 300],
    },
}


@pytest.fixture(scope="module")
def peer(wide_folder: Path) -> Any:
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # more would only wait for each other in so small a model
    return transformers.AutoModelForCausalLM.from_pretrained(wide_folder, dtype=torch.float32).eval()


@pytest.mark.parametrize("name", GREEDY_ARGUMENTS)
def test_greedy_ids_are_transformers(wide_models: dict[str, Model], peer: Any, name: str) -> None:
    torch = pytest.importorskip("torch")
    model, arguments = wide_models["float32 on 1"], GREEDY_ARGUMENTS[name]
    prompts = [np.random.default_rng(seed).integers(0, 300, 2 + 9 * seed).tolist() for seed in range(5)]
    for prompt, generation in zip(
        prompts, model.generate(prompts, max_new_tokens=40, **arguments), strict=True
    ):
        with torch.no_grad():
            output = peer.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                do_sample=False,
                max_new_tokens=40,
                pad_token_id=300,
                **arguments,
            )
        expected = output[0, len(prompt) :].tolist()
        eos = arguments.get("eos_token_id", 300)
        ended = expected[-1] in (eos if isinstance(eos, list) else [eos])
        assert list(generation.token_ids) == (expected[:-1] if ended else expected)
        assert generation.finish_reason == ("eos" if ended else "length")


def test_every_argument_changes_what_is_said(wide_models: dict[str, Model]) -> None:
    prompts = [np.random.default_rng(seed).integers(0, 300, 2 + 9 * seed).tolist() for seed in range(5)]
    said = {
        name: tuple(ids_of(wide_models["float32 on 1"].generate(prompts, max_new_tokens=40, **arguments)))
        for name, arguments in GREEDY_ARGUMENTS.items()
    }
    same = [(a, b) for a, b in itertools.combinations(said, 2) if said[a] == said[b]]
    assert same == []


# Bad input: one sentence of the right type, and the model goes on.


@pytest.fixture
def still_works(tiny_model: Model) -> Iterator[None]:
    expected = ids_of(tiny_model.generate(PROMPTS[0], max_new_tokens=6))
    yield
    assert tiny_model.kv_bytes_in_use == 0
    assert ids_of(tiny_model.generate(PROMPTS[0], max_new_tokens=6)) == expected


BAD_PROMPTS: list[tuple[Any, type[Exception], str]] = [
    ("", ValueError, "at least one token"),
    ([""], ValueError, "at least one token"),
    ([[]], ValueError, "at least one token"),
    ([[1], []], ValueError, "at least one token"),
    ([97], ValueError, "from 0 to 96"),
    ([1, 2, -1], ValueError, "-1"),
    ([[1, 2], [96, 97]], ValueError, "97"),
    ([2**40], ValueError, str(2**40)),
    ([-(2**70)], ValueError, "found -"),
    ([1] * 65, CapacityError, "at most 64 tokens, the model's positions, found 65"),
    ([[1], [1] * 100_000], CapacityError, "found 100000"),
    ("a" * 100_000, CapacityError, "found 100000"),
    ("half \ud83d pair", ValueError, "surrogate"),
    ([1.5], TypeError, "integers, found 1.5"),
    ([1, True], TypeError, "True"),
    ([1, "a"], TypeError, "'a'"),
    ([1, None], TypeError, "None"),
    (["a", None], TypeError, "NoneType"),
    (None, TypeError, "NoneType"),
    (7, TypeError, "int"),
    (b"bytes", TypeError, "bytes"),
    ([b"bytes"], TypeError, "bytes"),
    ({"a": 1}, TypeError, "dict"),
    (np.zeros(3), TypeError, "0.0"),
]


@pytest.mark.usefixtures("still_works")
@pytest.mark.parametrize(("prompt", "kind", "about"), BAD_PROMPTS, ids=[repr(p[0])[:20] for p in BAD_PROMPTS])
def test_a_bad_prompt(tiny_model: Model, prompt: Any, kind: type[Exception], about: str) -> None:
    with one_sentence(kind, about):
        tiny_model.generate(prompt)


BAD_ARGUMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"temprature": 1.0}, TypeError, "'temprature'; did you mean 'temperature'"),
    ({"max_token": 5}, TypeError, "did you mean 'max_new_tokens'"),
    ({"topk": 5}, TypeError, "did you mean 'top_k'"),
    ({"wibble": 5}, TypeError, "GenerationConfig.s help"),
    ({"max_new_tokens": "5"}, TypeError, "max_new_tokens to be an integer, found '5'"),
    ({"max_new_tokens": 5.0}, TypeError, "integer"),
    ({"max_new_tokens": True}, TypeError, "integer"),
    ({"do_sample": 1}, TypeError, "True or False"),
    ({"temperature": "hot"}, TypeError, "temperature to be a number"),
    ({"seed": 1.5}, TypeError, "seed to be an integer or None"),
    ({"eos_token_id": "x"}, TypeError, "eos_token_id"),
    ({"eos_token_id": [1, "x"]}, TypeError, "eos_token_id"),
    ({"temperature": -1}, ValueError, "expected temperature greater than 0"),
    ({"temperature": math.nan}, ValueError, "temperature"),
    ({"temperature": 10**400}, ValueError, "temperature"),
    ({"max_new_tokens": 0}, ValueError, "max_new_tokens to be 1 or more"),
    ({"max_new_tokens": -3}, ValueError, "found -3"),
    ({"min_new_tokens": -1}, ValueError, "min_new_tokens"),
    ({"min_new_tokens": 9, "max_new_tokens": 8}, ValueError, "at most max_new_tokens"),
    ({"min_new_tokens": 2**40, "max_new_tokens": 2**40}, ValueError, "min_new_tokens"),
    ({"top_k": -1}, ValueError, "top_k"),
    ({"top_k": 2**40}, ValueError, "top_k"),
    ({"top_p": 0}, ValueError, "top_p"),
    ({"top_p": 1.01}, ValueError, "top_p"),
    ({"repetition_penalty": 0}, ValueError, "repetition_penalty"),
    ({"no_repeat_ngram_size": -2}, ValueError, "no_repeat_ngram_size"),
    ({"no_repeat_ngram_size": 2**40}, ValueError, "no_repeat_ngram_size"),
    ({"eos_token_id": 2**40}, ValueError, "eos_token_id"),
    ({"eos_token_id": [1, -(2**40)]}, ValueError, "eos_token_id"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 2**64}, ValueError, "seed"),
]


@pytest.mark.usefixtures("still_works")
@pytest.mark.parametrize(
    ("arguments", "kind", "about"), BAD_ARGUMENTS, ids=[str(a[0]) for a in BAD_ARGUMENTS]
)
def test_a_bad_argument(
    tiny_model: Model, arguments: dict[str, Any], kind: type[Exception], about: str
) -> None:
    with one_sentence(kind, about):
        tiny_model.generate("Hello", **arguments)


@pytest.mark.usefixtures("still_works")
def test_a_bad_device(tiny_folder: Path, tiny_model: Model) -> None:
    for device, kind in (("cuda", BackendError), ("tpu", ValueError)):
        with one_sentence(kind, device):
            Model.from_pretrained(tiny_folder, device=device)
    for threads in (0, -1, 100_000):
        with one_sentence(ValueError, "num_threads"):
            Model.from_pretrained(tiny_folder, num_threads=threads)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_logits_that_overflow_are_an_error(tiny: Gpt2, tiny_folder: Path, tmp_path: Path, dtype: str) -> None:
    weights = {**tiny.tensors, "ln_f.weight": np.full(40, 1e38, dtype=np.float32)}
    folder = write_checkpoint(tmp_path / "damaged", Gpt2(tiny.config, weights))
    (folder / "tokenizer.json").write_bytes((tiny_folder / "tokenizer.json").read_bytes())
    settings = json.loads((tiny_folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model = Model.from_pretrained(folder, dtype=dtype, num_threads=1)
    with one_sentence(BackendError, "expected finite"):
        model.generate("Hello")
    assert model.kv_bytes_in_use == 0


# The cache


def test_pages_are_freed_at_once(tiny_model: Model) -> None:
    """By counting references: a collector that runs at some time would leave the cache full until then."""
    gc.collect()
    gc.disable()
    try:
        assert tiny_model.kv_bytes_in_use == 0
        tiny_model.generate(PROMPTS, max_new_tokens=4)
        assert tiny_model.kv_bytes_in_use == 0
        tiny_model.logits([1, 2, 3])
        tiny_model.score(["Hello"], "you")
        assert tiny_model.kv_bytes_in_use == 0
        for bad, kind in (([96, 97], ValueError), ([1] * 65, CapacityError)):
            with one_sentence(kind):
                tiny_model.generate([[1, 2, 3], bad])
            assert tiny_model.kv_bytes_in_use == 0
    finally:
        gc.enable()


def test_a_full_cache_is_the_error_of_those_who_fill_it(tiny_folder: Path, tiny_model: Model) -> None:
    (probe,) = [
        tiny_model.runtime.request(tiny_model.runtime.new_sequence(), [1], GenerationConfig(), seed=0, penalty_start=0)
    ]
    with tiny_model.runtime.running([probe]) as served:
        served.next_token(probe)
        page = tiny_model.kv_bytes_in_use
    assert page > 0
    model = Model.from_pretrained(tiny_folder, dtype="float32", num_threads=1, kv_cache_bytes=3 * page)
    config = GenerationConfig(max_new_tokens=10, eos_token_id=[])
    prompts = [[1, 2, 3], [4] * 60, [7, 8], [9] * 50]  # 1, 2, 1 and 2 pages: the last does not fit
    runtime = model.runtime
    requests = [
        runtime.request(runtime.new_sequence(), prompt, config, seed=0, penalty_start=0) for prompt in prompts
    ]
    replies: list[list[int | None]] = [[] for _ in prompts]
    with runtime.running(requests) as served:
        for _ in range(config.max_new_tokens):
            for i in range(len(prompts)):
                with suppress(CapacityError):
                    replies[i].append(served.next_token(requests[i]))
    failed = [i for i, one in enumerate(requests) if one.error is not None]
    assert 0 < len(failed) < len(prompts)
    assert all("in the KV cache, found" in str(requests[i].error) for i in failed)
    expected = [list(ids) for ids in ids_of(tiny_model.generate(prompts, max_new_tokens=10, eos_token_id=[]))]
    for i, reply in enumerate(replies):
        tokens = [token for token in reply if token is not None]
        assert tokens == expected[i][: len(tokens)]
        assert (len(tokens) < len(expected[i])) == (i in failed)
    del requests, served
    assert model.kv_bytes_in_use == 0
    assert ids_of(model.generate(prompts[1], max_new_tokens=10, eos_token_id=[])) == [tuple(expected[1])]
    with one_sentence(CapacityError, "kv_cache_bytes"):
        model.generate(prompts[1:2] * 2, max_new_tokens=1)


def test_an_interrupted_generate_leaves_nothing_behind(
    tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ids_of(tiny_model.generate(PROMPTS))
    calls = iter(range(100))
    step = scheduler.Scheduler._step

    def interrupted(self: scheduler.Scheduler, needed: scheduler.Job) -> None:
        if next(calls) == 3:
            raise KeyboardInterrupt("Ctrl-C")
        step(self, needed)

    with monkeypatch.context() as patch:
        patch.setattr(scheduler.Scheduler, "_step", interrupted)
        with one_sentence(KeyboardInterrupt, "Ctrl-C"):
            tiny_model.generate(PROMPTS)
    assert tiny_model.kv_bytes_in_use == 0
    assert ids_of(tiny_model.generate(PROMPTS)) == expected


# Logits and scores


def test_logits_do_not_depend_on_what_follows(long_model: Model) -> None:
    ids = np.random.default_rng(1).integers(0, 97, 300).tolist()
    whole = long_model.logits(ids)
    assert whole.shape == (300, 97) and whole.dtype == np.float32
    for length in (1, 31, 128, 129, 256, 299):
        assert_same_bits(long_model.logits(ids[:length]), whole[:length])


def test_logprobs_are_the_log_softmax_of_the_logits(long_model: Model) -> None:
    ids = np.random.default_rng(2).integers(0, 97, 300).tolist()
    logits = long_model.logits(ids).astype(np.float64)[:-1]
    highest = logits.max(axis=1, keepdims=True)
    expected = logits - highest - np.log(np.exp(logits - highest).sum(axis=1, keepdims=True))
    expected = expected[np.arange(299), ids[1:]]
    # The sum of exps is good to a few units, its logarithm to as much absolutely; the result is rounded once.
    bound = (2 * 4 + 97 / 16 + 4) * U + U * np.abs(expected)
    assert (np.abs(long_model.logprobs(ids) - expected) <= bound).all()
    assert long_model.logprobs([5]).shape == (0,)


def test_a_score_is_about_the_reply_alone(tiny_model: Model) -> None:
    eos, encode = tiny_model.tokenizer.eos_token_id, tiny_model.tokenizer.encode
    score = tiny_model.score(["Hello", "Hi you"], "fine")
    assert list(score.token_ids) == [*encode("fine"), eos]
    ids = [*encode("Hello"), eos, *encode("Hi you"), eos, *encode("fine"), eos]
    np.testing.assert_array_equal(score.logprobs, tiny_model.logprobs(ids)[-len(score.token_ids) :])
    assert score.total == pytest.approx(float(score.logprobs.astype(np.float64).sum()), rel=1e-12)
    assert score.perplexity == pytest.approx(math.exp(-score.total / len(score.token_ids)), rel=1e-12)
    assert tiny_model.score(["Hello"], "").token_ids == (eos,)


def test_text_in_a_score_never_becomes_a_special_token(tiny_model: Model) -> None:
    eos = tiny_model.tokenizer.eos_token_id
    score = tiny_model.score(["a<|endoftext|>b"], "<|endoftext|>")
    assert score.token_ids.count(eos) == 1 and len(score.token_ids) > 5


@pytest.mark.usefixtures("still_works")
def test_bad_input_to_logits_and_score(tiny_model: Model) -> None:
    for read in (tiny_model.logits, tiny_model.logprobs):
        for ids, kind in (
            ([], ValueError),
            ([97], ValueError),
            ([-1], ValueError),
            ([1] * 65, CapacityError),
        ):
            with one_sentence(kind):
                read(ids)
        for wrong in ("abc", b"abc", None, 3, [1.0]):
            with one_sentence(TypeError):
                read(wrong)  # type: ignore[arg-type]
    for context in ("Hello", []):
        with one_sentence(ValueError, "list of at least one turn"):
            tiny_model.score(context, "fine")
    with one_sentence(TypeError, "str"):
        tiny_model.score([3], "fine")  # type: ignore[list-item]
    with one_sentence(ValueError, "surrogate"):
        tiny_model.score(["Hello"], "\ud800")
    with one_sentence(CapacityError, "positions"):
        tiny_model.score(["Hello"] * 20, "fine")
