"""Which jobs do prompts and a config ask for, and what comes of them?"""

from __future__ import annotations

from collections.abc import Sequence

from dialocpp.decoding.generation_config import GenerationConfig
from dialocpp.text.stop_strings import cut

from .beam_search import BeamSearch
from .job import Prefill
from .request import Request
from .results import Generation, Timings, Usage
from .runtime import Runtime


def generate(
    runtime: Runtime, prompts: Sequence[list[int]], configs: Sequence[GenerationConfig], seed: int
) -> list[Generation]:
    """`num_return_sequences` continuations of each prompt, one after the other as transformers returns them.

    `configs`: one for each prompt; they differ in lengths alone.
    """
    if not prompts:
        return []
    if configs[0].num_beams > 1:
        return _by_beams(runtime, prompts, configs, seed)
    n = configs[0].num_return_sequences
    sequences = [runtime.new_sequence() for _ in prompts]
    if n > 1:  # the prompt is read once; its pages are shared
        runtime.run([Prefill(sequence, ids[:-1]) for sequence, ids in zip(sequences, prompts, strict=True)])
        sequences = [sequence.fork() for sequence in sequences for _ in range(n)]
    requests = [
        runtime.request(
            sequence,
            prompts[i // n],
            configs[i // n],
            seed=(seed + i) % 2**64,
            penalty_start=0,
            run_ahead=configs[i // n].max_new_tokens,  # nobody reads along: they stay together to their ends
        )
        for i, sequence in enumerate(sequences)
    ]
    runtime.run(requests)
    return [generation_of(runtime, request, configs[i // n], (seed + i) % 2**64) for i, request in enumerate(requests)]


def generation_of(runtime: Runtime, request: Request, config: GenerationConfig, seed: int) -> Generation:
    """What a finished request has written."""
    return Generation(
        text=_text(runtime, request.reply_ids, config),
        token_ids=tuple(request.reply_ids),
        finish_reason=request.finish_reason or "",
        seed=seed,
        usage=usage_of(request),
        timings=timings_of(request),
        logprobs=tuple(request.logprobs),
    )


def _by_beams(
    runtime: Runtime, prompts: Sequence[list[int]], configs: Sequence[GenerationConfig], seed: int
) -> list[Generation]:
    searches = [
        runtime.beam_search(runtime.new_sequence(), ids, config, penalty_start=0)
        for ids, config in zip(prompts, configs, strict=True)
    ]
    runtime.run(searches)
    return [
        generation
        for search, config in zip(searches, configs, strict=True)
        for generation in beam_generations(runtime, search, config, seed)[: config.num_return_sequences]
    ]


def beam_generations(runtime: Runtime, search: BeamSearch, config: GenerationConfig, seed: int) -> list[Generation]:
    """What a finished search has found, best first."""
    found = []
    for finished in search.finished:
        ids = finished.reply_ids
        found.append(
            Generation(
                text=_text(runtime, ids, config),
                token_ids=tuple(ids),
                finish_reason=finished.finish_reason,
                seed=seed,
                usage=Usage(
                    len(search.prompt),
                    search.cached_tokens,
                    completion_tokens=len(finished.generated),
                    generated_tokens=search.completion_tokens,
                ),
                timings=timings_of(search),
                score=finished.score,
            )
        )
    return found


def _text(runtime: Runtime, ids: Sequence[int], config: GenerationConfig) -> str:
    return cut(runtime.tokenizer.decode(ids, skip_special_tokens=True), config.stopping_strings)


def usage_of(request: Request) -> Usage:
    """What a reply has cost so far."""
    tokens = request.completion_tokens
    return Usage(len(request.prompt), request.cached_tokens, tokens, generated_tokens=tokens)


def timings_of(job: Request | BeamSearch) -> Timings:
    """How long a reply has taken so far."""
    if not job.completion_tokens:
        return Timings(0.0, 0.0)
    return Timings(job.first_token - job.submitted, job.last_token - job.submitted)
