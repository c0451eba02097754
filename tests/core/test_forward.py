"""Does the core compute GPT-2, with the same bits however the work is cut, batched and spread?

`Engine.logits` shows the bits of a whole text read alone, on one rung or another. A step shows a token only,
so its bits are tested on a knife's edge: two repetition penalties, one float32 apart, between which the
choice after a text read alone goes from one token to another. Another last bit moves that edge, and a choice.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import forward_probe
import numpy as np
import pytest
from dialocpp import _core
from dialocpp.errors import CapacityError
from forward_probe import DTYPES, engine, models, prompt
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from reference import gpt2_logits
from small_models import Gpt2

TOLERANCE = 1e-4  # on float32 logits, absolute: the project's promise
PAGE = 32  # positions in a page of the KV cache
MODELS = models()
WIDE = MODELS["wide"]

Logits = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="session")
def on_rung(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Logits]:
    """All logits of forward_probe.py on a rung."""

    @cache
    def run(isa: str) -> Logits:
        file = tmp_path_factory.mktemp("rung") / f"{isa}.npz"
        probe = Path(forward_probe.__file__)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DIALOCPP_ISA", isa)
            subprocess.run([sys.executable, str(probe), str(file)], check=True)
        with np.load(file) as saved:
            assert saved["isa"] == isa
            return {name: saved[name] for name in saved if name != "isa"}

    return run


@cache
def expected(name: str) -> NDArray[np.float64]:
    gpt2 = MODELS[name]
    return gpt2_logits(gpt2.config, gpt2.tensors, prompt(gpt2))


def test_float32_is_the_reference(runnable_isa: str, on_rung: Callable[[str], Logits]) -> None:
    for name in MODELS:
        logits = on_rung(runnable_isa)[f"{name} float32"]
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, expected(name), rtol=0, atol=TOLERANCE, err_msg=name)


def test_int8_is_near_the_reference(runnable_isa: str, on_rung: Callable[[str], Logits]) -> None:
    """Wrong scales or sums give errors as large as the logits; rounding to 8 bits gives some per cent."""
    for name in MODELS:
        error = on_rung(runnable_isa)[f"{name} int8"] - expected(name)
        assert 0 < error.std() < 0.06 * expected(name).std(), name


def test_every_rung_has_the_same_bits(runnable_isa: str, on_rung: Callable[[str], Logits]) -> None:
    plain, fast = on_rung("scalar"), on_rung(runnable_isa)
    assert plain.keys() == fast.keys() == {f"{name} {dtype}" for name in MODELS for dtype in DTYPES}
    for name in plain:
        np.testing.assert_array_equal(fast[name], plain[name], err_msg=name)


@pytest.mark.parametrize("isa", ["avx1024", "AVX2 "])
def test_an_unknown_rung_is_refused(isa: str) -> None:
    script = "import dialocpp as d\ntry: d._core.chosen_isa()\nexcept d.BackendError as error: print(error)"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIALOCPP_ISA", isa)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert isa in done.stdout and "scalar" in done.stdout


# From here on, everything runs in this process, on the best rung.

FLOAT32 = DTYPES[0]


@cache
def core(dtype: str, num_threads: int = 1) -> _core.Engine:
    return engine(WIDE, dtype, num_threads)


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_thread_has_the_bits_of_two(dtype: str) -> None:
    ids = prompt(WIDE)
    one, two = core(dtype, 1), core(dtype, 2)
    assert (one.num_threads, two.num_threads) == (1, 2)
    np.testing.assert_array_equal(one.logits(ids), two.logits(ids))
    np.testing.assert_array_equal(one.logprobs(ids), two.logprobs(ids))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_does_not_depend_on_the_rows_behind_it(dtype: str) -> None:
    """Every length of a text: every number of rows in a tile, every part of a page."""
    ids = prompt(WIDE)
    whole = core(dtype).logits(ids)
    for length in range(1, len(ids)):
        np.testing.assert_array_equal(
            core(dtype).logits(ids[:length]), whole[:length], err_msg=f"{length} ids"
        )


@pytest.mark.parametrize("dtype", DTYPES)
def test_logprobs_are_those_of_the_logits(dtype: str) -> None:
    ids = prompt(WIDE)
    logits = core(dtype).logits(ids).astype(np.float64)  # (T, V)
    shifted = logits - logits.max(axis=1, keepdims=True)
    of_all = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    of_the_next = of_all[np.arange(len(ids) - 1), ids[1:]]
    np.testing.assert_allclose(core(dtype).logprobs(ids), of_the_next, rtol=0, atol=1e-5)
    assert core(dtype).logprobs(ids[:1]).shape == (0,)


@dataclass(frozen=True)
class Story:
    """A text and its edge: with the lower penalty `kept` follows, with the next float32 `fresh` does."""

    ids: list[int]
    penalties: tuple[float, float]
    choices: tuple[int, int]  # kept: the best of the tokens in the text; fresh: the best of all others

    def work(self, sequence: _core.Sequence, tokens: list[int], side: int) -> _core.Work:
        return _core.Work(sequence, tokens, _core.SamplingParams(repetition_penalty=self.penalties[side]))


def chosen_by(engine: _core.Engine, work: list[_core.Work]) -> tuple[int, ...]:
    return tuple(outcome.token for outcome in engine.step(work))


def story(dtype: str, ids: list[int]) -> Story:
    """Read alone, whole, on one thread, from an empty cache: that is what every other way must equal."""
    last = core(dtype).logits(ids)[-1]
    known = np.zeros(last.size, dtype=bool)
    known[ids] = True
    kept, fresh = int(np.where(known, last, -np.inf).argmax()), int(np.where(known, -np.inf, last).argmax())
    assert min(last[kept], last[fresh]) > 0, "a penalty divides positive logits only"
    found = Story(ids, (0.0, 0.0), (kept, fresh))

    def chosen(penalty: np.float32) -> int:
        asked = _core.SamplingParams(repetition_penalty=float(penalty))
        return chosen_by(core(dtype), [_core.Work(core(dtype).sequence(), found.ids, asked)])[0]

    ratio = last[kept] / last[fresh]
    low, high = ratio * np.float32(0.999), ratio * np.float32(1.001)
    assert (chosen(low), chosen(high)) == found.choices
    while np.nextafter(low, high) < high:
        middle = np.float32((low + high) / 2)
        low, high = (middle, high) if chosen(middle) == kept else (low, middle)
    return Story(ids, (float(low), float(high)), found.choices)


@cache
def stories(dtype: str) -> list[Story]:
    """Texts around the borders of the pages and of eight rows, and some in between."""
    rng = np.random.default_rng(5)
    lengths = [2, 7, 8, 9, 31, 32, 33, 50, 63, 64, 65, 97, 127, 128, 129, 159]
    return [story(dtype, rng.integers(0, WIDE.config["vocab_size"], length).tolist()) for length in lengths]


def pieces(ids: list[int], cuts: set[int]) -> list[list[int]]:
    borders = [0, *sorted(cut for cut in cuts if 0 < cut < len(ids)), len(ids)]
    return [ids[start:end] for start, end in pairwise(borders)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_edge_feels_the_last_bit(dtype: str) -> None:
    """Else the tests below would prove little. The nudge moves every logit by about its last bit."""
    nudged = Gpt2(WIDE.config, dict(WIDE.tensors))
    for name in ("ln_f.weight", "ln_f.bias"):
        nudged.tensors[name] = WIDE.tensors[name] * (1 + np.float32(2**-23))
    other = engine(nudged, dtype)
    moved = 0
    for told in stories(dtype):
        difference = np.abs(other.logits(told.ids)[-1] - core(dtype).logits(told.ids)[-1]).max()
        assert difference < 1e-5
        chosen = chosen_by(other, [told.work(other.sequence(), told.ids, side) for side in (0, 1)])
        moved += chosen != told.choices
    assert moved >= len(stories(dtype)) // 3


SCHEDULES = settings(deadline=None, max_examples=80)
SOME_DTYPE, SOME_THREADS = st.sampled_from(DTYPES), st.sampled_from([1, 2])
SOME_CUTS = st.sets(
    st.integers(1, 158) | st.sampled_from([PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 4 * PAGE]), max_size=5
)


@given(
    SOME_DTYPE,
    SOME_THREADS,
    st.lists(st.tuples(st.integers(0, 15), SOME_CUTS), min_size=1, max_size=6),
    st.data(),
)
@SCHEDULES
def test_however_the_work_is_cut_and_batched(
    dtype: str, num_threads: int, plan: list[tuple[int, set[int]]], data: st.DataObject
) -> None:
    """Batched = alone, chunked = whole, one thread = two, in any mixture: ragged batches of pieces."""
    running = core(dtype, num_threads)
    waiting = []
    for index, cuts in plan:
        told = stories(dtype)[index]
        waiting += [(told, side, running.sequence(), pieces(told.ids, cuts)) for side in (0, 1)]
    while waiting:
        count = data.draw(st.integers(1, len(waiting)), label="sequences in this step")
        batch = data.draw(st.permutations(range(len(waiting))), label="order")[:count]
        work = []
        for told, side, sequence, left in (waiting[i] for i in batch):
            tokens = left.pop(0)
            work.append(_core.Work(sequence, tokens) if left else told.work(sequence, tokens, side))
        for i, token in zip(batch, chosen_by(running, work), strict=True):
            told, side, sequence, left = waiting[i]
            assert token == (-1 if left else told.choices[side])
            assert len(sequence) == len(told.ids) - sum(map(len, left))
        waiting = [entry for entry in waiting if entry[-1]]


@given(
    SOME_DTYPE,
    SOME_THREADS,
    st.integers(0, 15),
    SOME_CUTS,
    st.lists(st.integers(0, 300), max_size=70),
    st.data(),
)
@SCHEDULES
def test_detours_leave_no_trace(
    dtype: str, num_threads: int, index: int, cuts: set[int], junk: list[int], data: st.DataObject
) -> None:
    """Fork, truncate and feed again = fresh: at each cut, other ids are read and dropped, or go to a twin."""
    running = core(dtype, num_threads)
    told = stories(dtype)[index]
    sequence, twins = running.sequence(), []
    *first, last = pieces(told.ids, cuts)
    for tokens in first:
        running.step([_core.Work(sequence, tokens)])
        length = len(sequence)
        detour = junk[: WIDE.config["n_positions"] - length]
        way = data.draw(st.sampled_from(["none", "truncate", "twin strays", "self strays", "read again"]))
        if way == "truncate" and detour:
            running.step([_core.Work(sequence, detour)])
            sequence.truncate(length)
        elif way == "twin strays" and detour:
            twins.append(sequence.fork())
            running.step([_core.Work(twins[-1], detour)])
        elif way == "self strays" and detour:
            twins.append(sequence)
            sequence = sequence.fork()
            running.step([_core.Work(twins[-1], detour)])
        elif way == "read again":
            back = data.draw(st.integers(0, length - 1))
            sequence = sequence.fork(back)
            running.step([_core.Work(sequence, told.ids[back:length])])
        assert sequence.tokens == told.ids[:length]
    sides = [sequence.fork(), sequence.fork()]
    chosen = chosen_by(running, [told.work(twin, last, side) for side, twin in enumerate(sides)])
    assert tuple(chosen) == told.choices
    assert [twin.tokens for twin in sides] == [told.ids, told.ids]


def test_stories_grow_token_by_token() -> None:
    """Decoding: one sequence over all its pages, one token a step, asked at the length of every story."""
    for dtype in DTYPES:
        for told in stories(dtype):
            sequence = core(dtype).sequence()
            for token in told.ids[:-1]:
                core(dtype).step([_core.Work(sequence, [token])])
            both = [
                told.work(twin, told.ids[-1:], side) for side, twin in enumerate((sequence.fork(), sequence))
            ]
            assert chosen_by(core(dtype), both) == told.choices


MISTAKES: dict[str, tuple[type[Exception], list[int]]] = {
    "an id of the vocabulary's size": (ValueError, [1, 301]),
    "a negative id": (ValueError, [-1, 5]),
    "the smallest int32": (ValueError, [-(2**31)]),
    "no token": (ValueError, []),
    "one position too many": (CapacityError, [3] * 131),
}


@pytest.mark.parametrize(("error", "tokens"), MISTAKES.values(), ids=MISTAKES.keys())
@pytest.mark.parametrize("place", [0, 1])
def test_a_mistake_leaves_every_sequence_as_it_was(
    error: type[Exception], tokens: list[int], place: int
) -> None:
    running = core(FLOAT32)
    told = stories(FLOAT32)[7]
    good, bad = running.sequence(), running.sequence()
    running.step([_core.Work(good, told.ids[:30]), _core.Work(bad, told.ids[:30])])
    in_use = running.kv_bytes_in_use
    work = [_core.Work(good, told.ids[30:])]
    work.insert(place, _core.Work(bad, tokens))
    with pytest.raises(error):
        running.step(work)
    assert good.tokens == bad.tokens == told.ids[:30]
    assert running.kv_bytes_in_use == in_use
    rest = told.ids[30:]
    assert chosen_by(running, [told.work(good, rest, 0), told.work(bad, rest, 1)]) == told.choices


def test_a_sequence_twice_or_of_another_engine_is_refused() -> None:
    running = core(FLOAT32)
    mine, foreign = running.sequence(), core(FLOAT32, 2).sequence()
    with pytest.raises(ValueError, match="twice"):
        running.step([_core.Work(mine, [1]), _core.Work(mine, [2])])
    with pytest.raises(ValueError, match="engine"):
        running.step([_core.Work(mine, [1]), _core.Work(foreign, [2])])
    assert len(mine) == len(foreign) == 0


@pytest.mark.parametrize("length", [-1, 31])
def test_a_sequence_is_cut_within_its_length_only(length: int) -> None:
    sequence = core(FLOAT32).sequence()
    core(FLOAT32).step([_core.Work(sequence, [1] * 30)])
    with pytest.raises(ValueError, match="30"):
        sequence.fork(length)
    with pytest.raises(ValueError, match="30"):
        sequence.truncate(length)
    assert len(sequence) == 30


@pytest.mark.parametrize("read", ["logits", "logprobs"])
def test_a_text_that_cannot_be_read(read: str) -> None:
    reader = getattr(core(FLOAT32), read)
    for error, tokens in (
        (ValueError, []),
        (ValueError, [301]),
        (ValueError, [-1]),
        (CapacityError, [1] * 161),
    ):
        with pytest.raises(error):
            reader(tokens)


def test_every_position_can_be_used() -> None:
    running = core(FLOAT32)
    sequence = running.sequence()
    running.step([_core.Work(sequence, [1] * 160)])
    with pytest.raises(CapacityError, match="160"):
        running.step([_core.Work(sequence, [1])])
    assert len(sequence) == 160


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_full_cache_refuses_and_recovers(dtype: str) -> None:
    """With room for three pages: two sequences of a page each, and one more page for one of them."""
    probe = engine(WIDE, dtype)
    sequence = probe.sequence()
    probe.step([_core.Work(sequence, [1])])
    small = engine(WIDE, dtype, kv_cache_bytes=3 * probe.kv_bytes_in_use)
    one, other = small.sequence(), small.sequence()
    small.step([_core.Work(one, [1] * PAGE), _core.Work(other, [2] * PAGE)])
    in_use = small.kv_bytes_in_use
    with pytest.raises(CapacityError):
        small.step([_core.Work(one, [1]), _core.Work(other, [2])])
    assert (len(one), len(other)) == (PAGE, PAGE)
    assert small.kv_bytes_in_use == in_use, "the page that `one` got before `other` failed is free again"
    small.step([_core.Work(other, [2])])
    with pytest.raises(CapacityError):
        small.step([_core.Work(one, [1])])
    del other
    small.step([_core.Work(one, [1] * (PAGE + 1))])
    assert len(one) == 2 * PAGE + 1


def test_pages_are_shared_until_written_and_freed_when_dropped() -> None:
    running = engine(WIDE, FLOAT32)
    sequence = running.sequence()
    assert running.kv_bytes_in_use == 0
    running.step([_core.Work(sequence, [1] * (2 * PAGE + 5))])
    page = running.kv_bytes_in_use // 3
    twins = [sequence.fork() for _ in range(4)]
    assert running.kv_bytes_in_use == 3 * page
    running.step([_core.Work(twin, [2]) for twin in twins])
    assert running.kv_bytes_in_use == 7 * page  # each twin has its own copy of the last page only
    del twins
    sequence.truncate(PAGE)
    assert running.kv_bytes_in_use == page
    del sequence
    assert running.kv_bytes_in_use == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_type_of_keys_and_values_is_a_setting_of_its_own(dtype: str) -> None:
    """Unless it is given, it suits the weights: half precision for those of int8, whose error is larger."""
    ids = prompt(WIDE)[:100]
    found, pages = {}, {}
    for kv_dtype in ("float32", "float16", None):
        running = engine(WIDE, dtype, kv_dtype=kv_dtype)
        found[kv_dtype] = running.logits(ids)
        sequence = running.sequence()
        running.step([_core.Work(sequence, [1])])
        pages[kv_dtype] = running.kv_bytes_in_use
    assert pages["float32"] == 2 * pages["float16"]
    suits = "float16" if dtype == "int8" else "float32"
    assert pages[None] == pages[suits]
    np.testing.assert_array_equal(found[None], found[suits])
    error = np.abs(found["float32"] - expected("wide")[:100]).max() if dtype == "int8" else 0.01
    assert 0 < np.abs(found["float32"] - found["float16"]).max() < error
    for wrong in ("int8", "int32", "half"):
        with pytest.raises(ValueError, match=f"expected .*float32.*, found {wrong}"):
            engine(WIDE, dtype, kv_dtype=wrong)
