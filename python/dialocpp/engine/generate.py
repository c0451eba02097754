"""Which jobs do prompts and a config ask for, and what comes of them?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dialocpp import _core
from dialocpp.decoding.bad_words import WordGuard, word_guard
from dialocpp.decoding.generation_config import GenerationConfig
from dialocpp.text.stop_strings import cut

from .beam_search import BeamSearch
from .job import Reading
from .request import Request
from .results import Generation, Timings, Usage
from .runtime import Host, check_length, run


def generate(host: Host, prompts: Sequence[list[int]], config: GenerationConfig, seed: int) -> list[Generation]:
    """`num_return_sequences` continuations of each prompt, one after the other as transformers returns them."""
    if config.num_beams > 1:
        return _by_beams(host, prompts, config, seed)
    n = config.num_return_sequences
    sequences = [host.new_sequence() for _ in prompts]
    if n > 1:  # the prompt is read once; its pages are shared
        run(host, [Reading(sequence, ids[:-1]) for sequence, ids in zip(sequences, prompts, strict=True)])
        sequences = [sequence.fork() for sequence in sequences for _ in range(n)]
    requests = [
        reply_request(host, sequence, prompts[i // n], config, seed=(seed + i) % 2**64, penalty_start=0)
        for i, sequence in enumerate(sequences)
    ]
    for request in requests:
        request.run_ahead = config.max_new_tokens  # nobody reads along: they stay together to their ends
    run(host, requests)
    return [generation_of(host, request, config, (seed + i) % 2**64) for i, request in enumerate(requests)]


def reply_request(
    host: Host,
    sequence: _core.Sequence,
    prompt: list[int],
    config: GenerationConfig,
    *,
    seed: int,
    penalty_start: int,
) -> Request:
    """A request for one reply, not yet submitted. Penalties look at positions from `penalty_start` on."""
    check_length(host, prompt)
    eos_token_ids = config.eos_token_ids(host.eos_token_ids)
    guard = _guard(host, config)
    return Request(
        sequence,
        prompt,
        _rules(host, prompt, config, seed=seed, penalty_start=penalty_start),
        config.max_new_tokens,
        eos_token_ids,
        host.n_positions,
        stops=_stops(host, config),
        processor=config.logits_processor,
        top_logprobs=-1 if config.top_logprobs is None else config.top_logprobs,
        max_time=config.max_time,
        bans=guard.bans if guard else None,
    )


def beam_request(
    host: Host, sequence: _core.Sequence, prompt: list[int], config: GenerationConfig, *, penalty_start: int
) -> BeamSearch:
    """A beam search, not yet submitted."""
    check_length(host, prompt)
    eos_token_ids = config.eos_token_ids(host.eos_token_ids)
    guard = _guard(host, config)
    return BeamSearch(
        sequence,
        prompt,
        _rules(host, prompt, config, seed=0, penalty_start=penalty_start),
        config.num_beams,
        config.max_new_tokens,
        eos_token_ids,
        host.n_positions,
        length_penalty=config.length_penalty,
        early_stopping=config.early_stopping,
        num_beam_groups=config.num_beam_groups,
        diversity_penalty=config.diversity_penalty,
        stops=_stops(host, config),
        max_time=config.max_time,
        bans=guard.bans if guard else None,
    )


def _rules(
    host: Host, prompt: list[int], config: GenerationConfig, *, seed: int, penalty_start: int
) -> _core.Sampling:
    config.check_token_ids(host.vocab_size)
    guard = _guard(host, config)
    return config.sampling(
        eos_token_ids=config.eos_token_ids(host.eos_token_ids),
        seed=seed,
        reply_start=len(prompt),
        penalty_start=penalty_start,
        # The last token needs no position of its own: no step appends it.
        max_length=min(len(prompt) + config.max_new_tokens, host.n_positions + 1),
        banned_ids=guard.always if guard else (),
    )


def _guard(host: Host, config: GenerationConfig) -> WordGuard | None:
    return word_guard(host.tokenizer, config.bad_words) if config.bad_words else None


def generation_of(host: Host, request: Request, config: GenerationConfig, seed: int) -> Generation:
    """What a finished request has written."""
    return Generation(
        text=_text(host, request.reply_ids, config),
        token_ids=tuple(request.reply_ids),
        finish_reason=request.finish_reason or "",
        seed=seed,
        usage=usage_of(request),
        timings=timings_of(request),
        logprobs=tuple(request.logprobs),
    )


def _by_beams(host: Host, prompts: Sequence[list[int]], config: GenerationConfig, seed: int) -> list[Generation]:
    searches = [beam_request(host, host.new_sequence(), ids, config, penalty_start=0) for ids in prompts]
    run(host, searches)
    return [
        generation
        for search in searches
        for generation in beam_generations(host, search, config, seed)[: config.num_return_sequences]
    ]


def beam_generations(host: Host, search: BeamSearch, config: GenerationConfig, seed: int) -> list[Generation]:
    """What a finished search has found, best first."""
    found = []
    for finished in search.finished:
        ids = finished.reply_ids
        found.append(
            Generation(
                text=_text(host, ids, config),
                token_ids=tuple(ids),
                finish_reason=finished.finish_reason,
                seed=seed,
                usage=usage_of(search),
                timings=timings_of(search),
                score=finished.score,
            )
        )
    return found


def _stops(host: Host, config: GenerationConfig) -> Callable[[list[int]], bool] | None:
    strings = config.stopping_strings
    if not strings:
        return None

    def stops(generated: list[int]) -> bool:
        text = host.tokenizer.decode(generated, skip_special_tokens=True)
        return any(string in text for string in strings)

    return stops


def _text(host: Host, ids: Sequence[int], config: GenerationConfig) -> str:
    return cut(host.tokenizer.decode(ids, skip_special_tokens=True), config.stopping_strings)


def usage_of(job: Request | BeamSearch) -> Usage:
    """What a reply has cost so far."""
    return Usage(len(job.prompt), job.cached_tokens, job.completion_tokens)


def timings_of(job: Request | BeamSearch) -> Timings:
    """How long a reply has taken so far."""
    if not job.completion_tokens:
        return Timings(0.0, 0.0)
    return Timings(job.first_token - job.submitted, job.last_token - job.submitted)
