"""Who runs when? The scheduler alone, over a fake engine that knows nothing but arithmetic."""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from dialocpp import BackendError, CapacityError
from dialocpp.decoding.rules import Rules
from dialocpp.engine import request as jobs
from dialocpp.engine.request import RUN_AHEAD, Request
from dialocpp.engine.scheduler import STEP_TOKENS, Scheduler

EOS = 0


def follows(tokens: list[int]) -> int:
    """The fake model: the next token depends on every token before it and on their order; it is never EOS."""
    state = 7
    for token in tokens:
        state = (state * 31 + token + 1) % 997
    return state + 1


def continuation(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(follows(tokens))
    return tokens[len(prompt) :]


@dataclass(eq=False)
class Sequence:
    tokens: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.tokens)

    def truncate(self, length: int) -> None:
        assert 0 <= length <= len(self.tokens)
        del self.tokens[length:]


@dataclass
class Work:
    sequence: Sequence
    tokens: list[int]
    sampling: Any = None
    top_logprobs: int = -1
    bans: Any = ()

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass
class Engine:
    """Appends each work's tokens and answers as `model` says; `steps` has (sequence, tokens) of all work."""

    model: Callable[[list[int]], int] = follows
    steps: list[list[tuple[Sequence, int]]] = field(default_factory=list)
    before: Callable[[list[Work]], None] = lambda work: None
    after: Callable[[list[Work]], None] = lambda work: None

    def step(self, work: list[Work]) -> list[SimpleNamespace]:
        assert work and all(w.tokens for w in work)
        assert len({id(w.sequence) for w in work}) == len(work)
        self.before(work)
        for w in work:
            w.sequence.tokens += w.tokens
        self.steps.append([(w.sequence, len(w.tokens)) for w in work])
        chosen = [self.model(w.sequence.tokens) if w.sampling else -1 for w in work]
        self.after(work)
        return [SimpleNamespace(token=token) for token in chosen]


@pytest.fixture(autouse=True)
def fake_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "_core", SimpleNamespace(Work=Work))


def request(
    prompt: list[int], max_new_tokens: int = 5, sequence: Sequence | None = None, **more: Any
) -> Request:
    settings: dict[str, Any] = {"sampling": "asks", "eos_token_ids": (EOS,), "n_positions": 10_000} | more
    held: Any = sequence or Sequence()
    return Request(held, prompt, Rules(max_new_tokens=max_new_tokens, **settings))


def submit(over: Scheduler, *requests: Request) -> None:
    for one in requests:
        over.submit(one)


def rest(over: Scheduler, one: Request) -> list[int]:
    tokens = []
    while (token := over.next_token(one)) is not None:
        tokens.append(token)
    return tokens


def test_a_request_is_served_to_its_end() -> None:
    engine = Engine()
    served, one = Scheduler(engine), request([4, 5, 6])
    submit(served, one)
    assert rest(served, one) == continuation([4, 5, 6], 5) == one.reply_ids
    assert served.next_token(one) is None
    assert one.finish_reason == "length"
    assert [[n for _, n in step] for step in engine.steps] == [[3], [1], [1], [1], [1]]


def test_end_of_text_ends_it() -> None:
    served = Scheduler(Engine(model=lambda tokens: 9 if len(tokens) < 5 else EOS))
    one = request([1, 2, 3])
    submit(served, one)
    assert rest(served, one) == [9, 9, EOS]
    assert (one.finish_reason, one.reply_ids) == ("eos", [9, 9])


def test_the_last_position_ends_it() -> None:
    """The token that was chosen at the last position needs no position itself."""
    served, one = Scheduler(Engine()), request([1, 2, 3], max_new_tokens=50, n_positions=8)
    submit(served, one)
    assert len(rest(served, one)) == 8 - 3 + 1
    assert (one.finish_reason, len(one.sequence)) == ("length", 8)


@pytest.mark.parametrize("length", [1, STEP_TOKENS - 1, STEP_TOKENS, STEP_TOKENS + 1, 3 * STEP_TOKENS + 7])
def test_a_long_prompt_is_read_in_steps(length: int) -> None:
    engine, prompt = Engine(), list(range(length))
    served, one = Scheduler(engine), request(prompt, max_new_tokens=1)
    submit(served, one)
    assert rest(served, one) == continuation(prompt, 1)
    sizes = [n for step in engine.steps for _, n in step]
    assert sum(sizes) == length
    assert sizes == [STEP_TOKENS] * (length // STEP_TOKENS) + [length % STEP_TOKENS] * (
        length % STEP_TOKENS > 0
    )


def test_a_step_never_exceeds_its_budget() -> None:
    engine = Engine()
    served = Scheduler(engine)
    many = [request([i] * (1 + 37 * i % 300), max_new_tokens=20) for i in range(40)]
    submit(served, *many)
    for one in reversed(many):
        assert rest(served, one) == continuation(one.prompt, 20)
    sizes = [sum(n for _, n in step) for step in engine.steps]
    assert max(sizes) == STEP_TOKENS
    assert len(engine.steps) < 2 * (sum(sizes) / STEP_TOKENS + 20), "they did not share steps"


def test_more_replies_than_a_step_holds() -> None:
    served = Scheduler(Engine())
    many = [request([i], max_new_tokens=2) for i in range(STEP_TOKENS + 44)]
    submit(served, *many)
    assert [rest(served, one) for one in many] == [continuation([i], 2) for i in range(len(many))]


def test_whoever_asks_comes_first_then_replies_then_prompts() -> None:
    engine = Engine()
    served = Scheduler(engine)
    speaking, reading, asking = request([1]), request([2] * 300), request([3] * 200)
    submit(served, speaking)
    served.next_token(speaking)
    submit(served, reading, asking)
    served.next_token(asking)
    assert engine.steps[-1] == [(asking.sequence, 200), (speaking.sequence, 1), (reading.sequence, 55)]


def test_a_long_prompt_does_not_hold_up_a_reply() -> None:
    engine = Engine()
    served = Scheduler(engine)
    speaking, reading = request([1], max_new_tokens=9), request(list(range(9 * STEP_TOKENS)))
    submit(served, speaking, reading)
    for steps in range(1, 10):
        served.next_token(speaking)
        assert len(engine.steps) == steps
    assert rest(served, reading) == continuation(reading.prompt, 5)


def test_nobody_runs_far_ahead_of_its_caller() -> None:
    served = Scheduler(Engine())
    slow, quick = request([1], max_new_tokens=200), request([2], max_new_tokens=150)
    submit(served, slow, quick)
    rest(served, quick)
    assert len(slow.generated) == RUN_AHEAD
    served.next_token(slow)
    other = request([3], max_new_tokens=10)
    submit(served, other)
    rest(served, other)
    assert len(slow.generated) == RUN_AHEAD + 1
    assert slow.generated[:1] + rest(served, slow) == continuation([1], 200)


def test_callers_may_take_turns_in_one_thread() -> None:
    served = Scheduler(Engine())
    many = [request([i, i + 1], max_new_tokens=6) for i in range(5)]
    submit(served, *many)
    rounds = [[served.next_token(one) for one in many] for _ in range(6)]
    columns = [list(column) for column in zip(*rounds, strict=True)]
    assert columns == [continuation(one.prompt, 6) for one in many]


def test_many_threads_get_what_each_would_get_alone() -> None:
    served = Scheduler(Engine())
    many = [request(list(range(i, 40 * i + 1)), max_new_tokens=30) for i in range(12)]
    replies: dict[int, list[int]] = {}

    def serve(index: int) -> None:
        submit(served, many[index])
        replies[index] = rest(served, many[index])

    threads = [threading.Thread(target=serve, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == {i: continuation(one.prompt, 30) for i, one in enumerate(many)}


# What a sequence already holds


@pytest.mark.parametrize(
    ("held", "prompt", "cached"),
    [
        ([], [1, 2, 3], 0),
        ([1, 2], [1, 2, 3], 2),
        ([1, 2, 3], [1, 2, 3], 2),  # the last token is read again: only reading gives its logits
        ([1, 2, 3, 4, 5], [1, 2, 3], 2),
        ([1, 2, 9, 9], [1, 2, 3, 4], 2),
        ([9, 2, 3], [1, 2, 3], 0),
    ],
)
def test_what_is_held_is_not_read_again(held: list[int], prompt: list[int], cached: int) -> None:
    engine = Engine()
    served, one = Scheduler(engine), request(prompt, sequence=Sequence(list(held)))
    submit(served, one)
    assert rest(served, one) == continuation(prompt, 5)
    assert one.cached_tokens == cached
    assert engine.steps[0] == [(one.sequence, len(prompt) - cached)]


# Leaving


def test_a_cancelled_request_is_never_run_again() -> None:
    engine = Engine()
    served = Scheduler(engine)
    gone, stays = request([1], max_new_tokens=99), request([2], max_new_tokens=9)
    submit(served, gone, stays)
    served.next_token(stays)
    served.cancel(gone)
    seen = len(engine.steps)
    assert rest(served, stays) == continuation([2], 9)[1:]
    assert all(sequence is not gone.sequence for step in engine.steps[seen:] for sequence, _ in step)
    served.cancel(gone)  # once more is fine


def test_a_finished_request_takes_no_more_steps() -> None:
    engine = Engine()
    served = Scheduler(engine)
    short, long = request([1], max_new_tokens=2), request([2], max_new_tokens=20)
    submit(served, short, long)
    rest(served, long)
    assert sum(sequence is short.sequence for step in engine.steps for sequence, _ in step) == 2
    assert rest(served, short) == continuation([1], 2)


# Errors


@pytest.mark.parametrize("kind", [CapacityError, ValueError, BackendError])
@pytest.mark.parametrize("asking", ["the culprit", "another"])
def test_an_error_reaches_only_its_owner(kind: type[Exception], asking: str) -> None:
    culprit = request([13], max_new_tokens=9)
    others = [request([i], max_new_tokens=9) for i in (1, 2, 3)]

    def before(work: list[Work]) -> None:
        if any(w.sequence is culprit.sequence and len(w.sequence) >= 3 for w in work):
            raise kind("too much")

    served = Scheduler(Engine(before=before))
    submit(served, others[0], culprit, *others[1:])
    if asking == "another":
        for one in others:
            assert rest(served, one) == continuation(one.prompt, 9)
    assert [served.next_token(culprit) for _ in range(3)] == continuation([13], 3)
    for _ in range(2):
        with pytest.raises(kind, match="too much"):
            served.next_token(culprit)
    if asking == "the culprit":
        for one in others:
            assert rest(served, one) == continuation(one.prompt, 9)
    assert culprit.sequence.tokens == [], "the cache has back what it took"


def test_an_error_that_only_a_full_step_meets_harms_nobody() -> None:
    """When the cache has room for each but not for all at once, those that fit go on."""

    def before(work: list[Work]) -> None:
        if len(work) > 1:
            raise CapacityError("together too much")

    served = Scheduler(Engine(before=before))
    many = [request([i], max_new_tokens=4) for i in range(3)]
    submit(served, *many)
    assert [rest(served, one) for one in many] == [continuation([i], 4) for i in range(3)]


# Interruptions: Ctrl-C can strike anywhere in Python.


@pytest.mark.parametrize("place", ["before", "after", "commit", "mid-commit"])
@pytest.mark.parametrize("strikes_at", [1, 2, 5])
def test_an_interrupted_step_is_run_again_with_the_same_result(
    place: str, strikes_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine()
    calls = 0

    def strike(*_: object) -> None:
        nonlocal calls
        calls += 1
        if calls == strikes_at:
            raise KeyboardInterrupt

    commit = Scheduler._commit

    def interrupted_commit(self: Scheduler, planned: list[Any], outcomes: list[Any]) -> None:
        done = 1 if place == "mid-commit" else 0
        commit(self, planned[:done], outcomes[:done])
        strike()
        commit(self, planned[done:], outcomes[done:])

    if place == "before":
        engine.before = strike
    elif place == "after":
        engine.after = strike
    else:
        monkeypatch.setattr(Scheduler, "_commit", interrupted_commit)
    served = Scheduler(engine)
    many = [request([i] * (1 + 150 * i), max_new_tokens=8) for i in range(4)]
    submit(served, *many)
    replies: list[list[int | None]] = [[] for _ in many]
    for i in [*range(4)] * 9:
        with suppress(KeyboardInterrupt):
            replies[i] += [served.next_token(many[i])]
    assert sum(map(len, replies)) == 4 * 9 - 1, "it struck once"
    assert [[t for t in reply if t is not None] for reply in replies] == [
        continuation(one.prompt, 8) for one in many
    ]
    assert all(one.sequence.tokens == (one.prompt + one.generated)[:-1] for one in many)
