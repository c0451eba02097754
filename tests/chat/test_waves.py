"""Do many candidates begin in waves that look at the clock and at who stops them, and is their number bounded?"""

import time
from typing import Any

import pytest
from conversations import LINES, SHORT
from dialocpp import ChatSession, GenerationConfig, Model, ReplyCancelledError
from dialocpp.chat import candidates
from dialocpp.chat.candidates import AT_ONCE
from dialocpp.engine.scheduler import Scheduler
from held_engine import held_engine
from sentences import one_sentence


def test_waves_change_no_reply(random_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments: dict[str, Any] = {"num_candidates": 90, "rankers": lambda context, reply: float(len(reply)), **SHORT}
    expected = ChatSession(random_model, seed=1, **arguments).reply(LINES[0])
    assert len(expected.candidates) == 90
    replies = set()
    for at_once in (1, 7, 1000):
        monkeypatch.setattr(candidates, "AT_ONCE", at_once)
        chat = ChatSession(random_model, seed=1, **arguments)
        assert chat.reply(LINES[0]).candidates == expected.candidates
        again = chat.reply(LINES[1])  # also where the chosen one has given its pages back
        replies.add(tuple(each.text for each in again.candidates))
    assert len(replies) == 1


def test_no_more_than_a_wave_runs_at_once(random_model: Model) -> None:
    widths: list[int] = []
    with held_engine(random_model) as engine:
        step = engine.step

        def noting(work: Any) -> Any:
            widths.append(len(work))
            return step(work)

        engine.step = noting  # type: ignore[method-assign]
        ChatSession(random_model, seed=1, num_candidates=200, **SHORT).reply(LINES[0])
    assert max(widths) == AT_ONCE


def test_a_stopped_reply_begins_no_further_wave(random_model: Model) -> None:
    chat = ChatSession(random_model, seed=1, num_candidates=1000, **SHORT)
    with held_engine(random_model) as engine:

        def stop_in_the_third() -> None:
            if engine.steps == 2:
                assert chat.cancel()

        engine.before = stop_in_the_third
        with one_sentence(ReplyCancelledError):
            chat.reply(LINES[0])
        assert engine.steps == 3
    assert chat.history == [] and random_model.runtime.scheduler._live == {}


def test_time_that_is_up_begins_no_further_wave(random_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock stands still until the second step, and is an hour later then."""
    now = [1000.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    chat = ChatSession(random_model, seed=1, num_candidates=1000, max_time=5.0, **SHORT)
    with held_engine(random_model) as engine:

        def an_hour_later() -> None:
            if engine.steps == 2:
                now[0] += 3600

        engine.before = an_hour_later
        reply = chat.reply(LINES[0])
    assert len(reply.candidates) == AT_ONCE and reply.text


@pytest.mark.parametrize("name", ["num_candidates", "num_beams", "num_return_sequences"])
def test_the_number_is_bounded(random_model: Model, name: str) -> None:
    with one_sentence(ValueError, f"{name} to be at most 1024, found 1000000000"):
        ChatSession(random_model, **{name: 10**9})
    if name != "num_candidates":
        with one_sentence(ValueError, f"{name} to be at most 1024"):
            GenerationConfig(**{name: 1025})


def test_abandoning_looks_at_one_job_only() -> None:
    """So leaving n of them costs n."""

    class Job:
        asked = 0
        cancelled = False

        def begin(self) -> None:
            pass

        @property
        def done(self) -> bool:
            Job.asked += 1
            return False

    scheduler: Any = Scheduler(None)  # type: ignore[arg-type]
    jobs = [Job() for _ in range(1000)]
    for job in jobs:
        scheduler.submit(job)
    for job in jobs:
        scheduler.abandon(job)
    assert Job.asked == 0 and scheduler._live == {}
