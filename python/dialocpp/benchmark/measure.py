"""How fast does a loaded model read, write and converse? Through the same scheduler as every caller.

Each measurement is run once to warm up and then `runs` times. The best run is the result, since others on
the machine can only make a run slower; all runs are kept.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dialocpp.chat.session import ChatSession
from dialocpp.decoding.generation_config import GREEDY, GenerationConfig
from dialocpp.engine.request import Request
from dialocpp.model import Model

_WORDS = ["do", "you", "know", "what", "I", "like", "best", "about", "the", "old", "town", "and", "river"]


@dataclass(frozen=True)
class Latency:
    """One sequence, alone. Milliseconds; tokens per second of the fastest run."""

    prompt_tokens: int
    new_tokens: int
    ttft_ms: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    ms_per_token_p50: float  # over the tokens of all runs
    ms_per_token_p90: float
    ms_per_token_p99: float
    runs_ttft_ms: list[float]
    runs_decode_tokens_per_s: list[float]


@dataclass(frozen=True)
class Throughput:
    """Many sequences at once. `decode`: once all prompts are read; `total`: prompts included."""

    sequences: int
    prompt_tokens: int
    new_tokens: int
    decode_tokens_per_s: float
    total_tokens_per_s: float
    runs_decode_tokens_per_s: list[float]


@dataclass(frozen=True)
class Chat:
    """One conversation. The cost of a turn should not grow with the turns before it: see `last_to_second`."""

    turns: int
    message_tokens: int
    reply_tokens: int
    history_tokens: int
    dropped_turns: int
    ttft_ms: list[float]  # of each turn, the fastest run's
    last_to_second: float
    decode_tokens_per_s: float


@dataclass(frozen=True)
class _Run:
    """When the prompts were all read and when each step after that was done, in seconds from the start."""

    first_token: float
    ends: list[float]
    decoded: int  # tokens between the two

    @property
    def speed(self) -> float:
        """Tokens per second after the prompts."""
        return self.decoded / (self.ends[-1] - self.first_token)


def measure_latency(
    model: Model, *, prompt_tokens: int = 32, new_tokens: int = 128, runs: int = 5
) -> Latency:
    """ValueError if prompt and reply together outgrow the model's positions."""
    prompts = [prompt_ids(model, prompt_tokens)]
    results = _runs(model, prompts, new_tokens, runs)
    ttft = [run.first_token for run in results]
    steps = np.concatenate([np.diff([run.first_token, *run.ends]) for run in results]) * 1e3
    speeds = [run.speed for run in results]
    p50, p90, p99 = (float(np.percentile(steps, q)) for q in (50, 90, 99))
    return Latency(
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        ttft_ms=min(ttft) * 1e3,
        prefill_tokens_per_s=prompt_tokens / min(ttft),
        decode_tokens_per_s=max(speeds),
        ms_per_token_p50=p50,
        ms_per_token_p90=p90,
        ms_per_token_p99=p99,
        runs_ttft_ms=[seconds * 1e3 for seconds in ttft],
        runs_decode_tokens_per_s=speeds,
    )


def measure_throughput(
    model: Model, *, sequences: int = 16, prompt_tokens: int = 32, new_tokens: int = 64, runs: int = 5
) -> Throughput:
    """Different prompts of one length. ValueError as in `measure_latency`."""
    prompts = [prompt_ids(model, prompt_tokens, start=i) for i in range(sequences)]
    results = _runs(model, prompts, new_tokens, runs)
    speeds = [run.speed for run in results]
    return Throughput(
        sequences=sequences,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        decode_tokens_per_s=max(speeds),
        total_tokens_per_s=sequences * new_tokens / min(run.ends[-1] for run in results),
        runs_decode_tokens_per_s=speeds,
    )


def measure_chat(
    model: Model, *, turns: int = 20, message_tokens: int = 12, reply_tokens: int = 20, runs: int = 3
) -> Chat:
    """A conversation whose messages and replies all have the same length. At least 3 turns (ValueError)."""
    if turns < 3:
        raise ValueError(f"turns: expected 3 or more, to compare the last with the second, found {turns}")
    best = [float("inf")] * turns
    speed = 0.0
    for _ in range(runs + 1):  # the first one warms up, and its times can only be slower
        chat = ChatSession(model, GREEDY)
        tokens = dropped = 0
        for turn in range(turns):
            reply = chat.reply(
                _message(model, turn, message_tokens),
                max_new_tokens=reply_tokens,
                min_new_tokens=reply_tokens,
            )
            best[turn] = min(best[turn], reply.timings.time_to_first_token * 1e3)
            speed = max(speed, reply.timings.tokens_per_second(reply.usage.completion_tokens))
            tokens = reply.usage.prompt_tokens + reply.usage.completion_tokens
            dropped += reply.dropped_turns
    return Chat(
        turns=turns,
        message_tokens=message_tokens,
        reply_tokens=reply_tokens,
        history_tokens=tokens,
        dropped_turns=dropped,
        ttft_ms=best,
        last_to_second=best[-1] / best[1],
        decode_tokens_per_s=speed,
    )


def prompt_ids(model: Model, tokens: int, start: int = 0) -> list[int]:
    """Fixed ids, others for each `start`; the last id, which mostly ends a text, is not among them."""
    return [(7 * i + 131 * start + 1) % (model.config.vocab_size - 1) for i in range(tokens)]


def _message(model: Model, turn: int, tokens: int) -> str:
    """Words, another order for each turn, until they are at least so many tokens."""
    text = _WORDS[turn % len(_WORDS)]
    while len(model.tokenizer.encode(text)) < tokens:
        text += " " + _WORDS[(turn + text.count(" ") * (turn + 1) + 1) % len(_WORDS)]
    return text


def _runs(model: Model, prompts: Sequence[list[int]], new_tokens: int, runs: int) -> list[_Run]:
    if new_tokens < 2:
        raise ValueError(f"new_tokens: expected 2 or more, found {new_tokens}")
    if len(prompts[0]) + new_tokens > model.config.n_positions:
        raise ValueError(
            f"{len(prompts[0])} prompt tokens and {new_tokens} new ones outgrow the model's "
            f"{model.config.n_positions} positions; take fewer."
        )
    # With as many new tokens at least as at most, an end-of-text cannot cut a run short.
    config = GenerationConfig(max_new_tokens=new_tokens, min_new_tokens=new_tokens)
    return [_run(model, prompts, config) for _ in range(runs + 1)][1:]


def _run(model: Model, prompts: Sequence[list[int]], config: GenerationConfig) -> _Run:
    runtime = model.runtime
    requests: list[Request] = [
        runtime.request(runtime.new_sequence(), ids, config, seed=0, penalty_start=0) for ids in prompts
    ]
    with runtime.running(requests) as scheduler:
        start = time.perf_counter()
        ends = []
        early = 0  # while the last prompts are read, the first replies may already run ahead
        for _ in range(config.max_new_tokens):
            for request in requests:
                scheduler.next_token(request)
            ends.append(time.perf_counter() - start)
            early = early or sum(len(request.generated) for request in requests)
    return _Run(ends[0], ends[1:], sum(len(request.generated) for request in requests) - early)
