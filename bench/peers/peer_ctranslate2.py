"""CTranslate2's Generator, int8 and float32.

It tells no times of its own, so decoding is the time for all new tokens less that for the first one.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import ctranslate2
import worker


class CTranslate2:
    """One generator; its prompts are token strings."""

    def __init__(self, model: Path, variant: str, threads: int) -> None:
        self._generator = ctranslate2.Generator(
            str(model), device="cpu", compute_type=variant, inter_threads=1, intra_threads=threads
        )
        self._vocabulary = json.loads((model / "vocabulary.json").read_text(encoding="utf-8"))
        self.versions = {"ctranslate2": ctranslate2.__version__}

    def prefill(self, prompt: list[int]) -> float:
        return self._seconds([prompt], 1)

    def decode(self, prompts: list[list[int]], new_tokens: int) -> float:
        return self._seconds(prompts, new_tokens) - self._seconds(prompts, 1)

    def _seconds(self, prompts: list[list[int]], new_tokens: int) -> float:
        tokens = [[self._vocabulary[i] for i in prompt] for prompt in prompts]
        start = time.perf_counter()
        results = self._generator.generate_batch(
            tokens,
            max_length=new_tokens,
            min_length=new_tokens,
            beam_size=1,
            sampling_topk=1,
            include_prompt_in_result=False,
        )
        seconds = time.perf_counter() - start
        written = {len(result.sequences_ids[0]) for result in results}
        if written != {new_tokens}:
            raise RuntimeError(f"expected {new_tokens} new tokens for each prompt, found {written}")
        return seconds


def prepare(model: Path, out: Path, variant: str) -> None:
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(model)).convert(str(out), quantization=variant, force=True)


if __name__ == "__main__":
    worker.main(prepare, CTranslate2)
