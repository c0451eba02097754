"""OpenVINO GenAI's LLMPipeline with int8 weights, everything else as it chooses itself."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai
import worker


class OpenVino:
    """One pipeline, fed with token ids; its own metrics tell the time of the first token."""

    def __init__(self, model: Path, variant: str, threads: int) -> None:
        self._pipeline = genai.LLMPipeline(str(model), "CPU", INFERENCE_NUM_THREADS=threads)
        self.versions = {"openvino": ov.__version__, "openvino-genai": genai.__version__}

    def prefill(self, prompt: list[int]) -> float:
        start = time.perf_counter()
        self._generate([prompt], 1)
        return time.perf_counter() - start

    def decode(self, prompts: list[list[int]], new_tokens: int) -> float:
        start = time.perf_counter()
        result = self._generate(prompts, new_tokens)
        seconds = time.perf_counter() - start
        return seconds - result.perf_metrics.get_ttft().mean / 1e3

    def _generate(self, prompts: list[list[int]], new_tokens: int) -> genai.EncodedResults:
        ids = np.array(prompts, np.int64)
        inputs = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        result = self._pipeline.generate(
            inputs, max_new_tokens=new_tokens, ignore_eos=True, do_sample=False, apply_chat_template=False
        )
        written = {len(tokens) for tokens in result.tokens}
        if written != {new_tokens}:
            raise RuntimeError(f"expected {new_tokens} new tokens for each prompt, found {written}")
        return result


def prepare(model: Path, out: Path, variant: str) -> None:
    command = [str(Path(sys.executable).parent / "optimum-cli"), "export", "openvino", "--model", str(model)]
    options = ["--task", "text-generation-with-past", "--weight-format", variant]
    subprocess.run([sys.executable, *command, *options, str(out)], check=True)


if __name__ == "__main__":
    worker.main(prepare, OpenVino)
