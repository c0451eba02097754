"""Hugging Face transformers: float32, bfloat16, and torch's dynamic int8 with every Conv1D made a Linear.

The loop is written out over the KV cache instead of `generate`, which would be a little slower.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import transformers
import worker

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.float32}


class Transformers:
    """GPT2LMHeadModel on the CPU."""

    def __init__(self, model: Path, variant: str, threads: int) -> None:
        torch.set_num_threads(threads)
        # Not float16, which is what the checkpoint holds: transformers would compute in it, slowly.
        self._model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=DTYPES[variant]).eval()
        if variant == "int8":
            self._model = _dynamic_int8(self._model)
        self.versions = {"transformers": transformers.__version__, "torch": torch.__version__}

    @torch.inference_mode()
    def prefill(self, prompt: list[int]) -> float:
        start = time.perf_counter()
        self._step(torch.tensor([prompt]), None)
        return time.perf_counter() - start

    @torch.inference_mode()
    def decode(self, prompts: list[list[int]], new_tokens: int) -> float:
        tokens, cache = self._step(torch.tensor(prompts), None)
        start = time.perf_counter()
        for _ in range(new_tokens - 1):
            tokens, cache = self._step(tokens, cache)
        return time.perf_counter() - start

    @torch.inference_mode()
    def chat(self, turns: int, message_tokens: int, reply_tokens: int) -> list[float]:
        """The model card's loop: `generate` over the whole history, which it reads anew in every turn."""
        seconds = []
        for turn in (2, turns):
            history = turn * (message_tokens + 1) + (turn - 1) * (reply_tokens + 1)
            ids = torch.tensor([worker.prompt_ids(history)])
            runs = []
            for _ in range(3):
                start = time.perf_counter()
                self._model.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=1, pad_token_id=50256
                )
                runs.append(time.perf_counter() - start)
            seconds.append(min(runs))
        return seconds

    def _step(self, ids: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        out = self._model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1].argmax(-1, keepdim=True), out.past_key_values


def _dynamic_int8(model: torch.nn.Module) -> torch.nn.Module:
    """torch quantises Linear only, and GPT-2's linears are Conv1D: the same with the weight transposed."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, transformers.pytorch_utils.Conv1D):
                inputs, outputs = child.weight.shape
                linear = torch.nn.Linear(inputs, outputs)
                linear.weight = torch.nn.Parameter(child.weight.detach().t().contiguous())
                linear.bias = child.bias
                setattr(parent, name, linear)
    return torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)


def prepare(model: Path, out: Path, variant: str) -> None:
    """Nothing to convert: the folder is already what transformers reads."""
    if not out.exists():
        out.symlink_to(model.resolve(), target_is_directory=True)


if __name__ == "__main__":
    worker.main(prepare, Transformers)
