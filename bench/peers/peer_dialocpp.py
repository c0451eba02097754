"""dialocpp as a peer of itself: the same requests, through the same Python API that its users have."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import dialocpp
import worker
from dialocpp.benchmark import measure_chat, measure_latency, measure_roofs, measure_throughput


class Dialocpp:
    """One model; its own benchmark functions are the measurement."""

    def __init__(self, model: Path, variant: str, threads: int) -> None:
        self._model = dialocpp.Model.from_pretrained(model, dtype=variant, num_threads=threads)
        self.versions = {"dialocpp": dialocpp.__version__}

    def prefill(self, prompt: list[int]) -> float:
        (reply,) = self._model.generate(prompt, max_new_tokens=1)
        return reply.timings.time_to_first_token

    def decode(self, prompts: list[list[int]], new_tokens: int) -> float:
        result = measure_throughput(
            self._model, sequences=len(prompts), prompt_tokens=len(prompts[0]), new_tokens=new_tokens, runs=1
        )
        return len(prompts) * (new_tokens - 1) / result.decode_tokens_per_s

    def chat(self, turns: int, message_tokens: int, reply_tokens: int) -> list[float]:
        result = measure_chat(
            self._model, turns=turns, message_tokens=message_tokens, reply_tokens=reply_tokens, runs=2
        )
        return [result.ttft_ms[1] / 1e3, result.ttft_ms[-1] / 1e3]

    def roofs(self) -> dict[str, Any]:
        return asdict(measure_roofs(self._model.num_threads))

    def details(self) -> dict[str, Any]:
        latency = measure_latency(self._model, runs=1)
        return {"weight_bytes": self._model.weight_bytes, "ms_per_token_p99": latency.ms_per_token_p99}


def prepare(model: Path, out: Path, variant: str) -> None:
    from dialocpp.checkpoint import export_checkpoint

    export_checkpoint(model, out, dtype=variant)


if __name__ == "__main__":
    worker.main(prepare, Dialocpp)
