"""ONNX Runtime on optimum's export with past key values: float32, and dynamic int8 (per channel).

Keys and values stay in ONNX Runtime's own memory from step to step.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import worker


class OnnxRuntime:
    """One session; the cache goes from its outputs back to its inputs."""

    def __init__(self, model: Path, variant: str, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        self._session = ort.InferenceSession(model / "model.onnx", options, ["CPUExecutionProvider"])
        inputs = {i.name: i.shape for i in self._session.get_inputs()}
        self._past = [name for name in inputs if name.startswith("past_key_values")]
        self._wants_positions = "position_ids" in inputs
        heads, width = inputs[self._past[0]][1], inputs[self._past[0]][3]
        self._empty = (heads, 0, width)
        self._outputs = [o.name for o in self._session.get_outputs()]
        self.versions = {"onnxruntime": ort.__version__}

    def prefill(self, prompt: list[int]) -> float:
        start = time.perf_counter()
        self._step(np.array([prompt], np.int64), self._no_past(1), 0)
        return time.perf_counter() - start

    def decode(self, prompts: list[list[int]], new_tokens: int) -> float:
        tokens, past = self._step(np.array(prompts, np.int64), self._no_past(len(prompts)), 0)
        start = time.perf_counter()
        for i in range(new_tokens - 1):
            tokens, past = self._step(tokens, past, len(prompts[0]) + i)
        return time.perf_counter() - start

    def _no_past(self, batch: int) -> list[ort.OrtValue]:
        heads, length, width = self._empty
        empty = np.zeros((batch, heads, length, width), np.float32)
        return [ort.OrtValue.ortvalue_from_numpy(empty) for _ in self._past]

    def _step(
        self, ids: np.ndarray, past: list[ort.OrtValue], position: int
    ) -> tuple[np.ndarray, list[ort.OrtValue]]:
        batch, count = ids.shape
        feeds = {"input_ids": ids, "attention_mask": np.ones((batch, position + count), np.int64)}
        if self._wants_positions:
            feeds["position_ids"] = np.tile(np.arange(position, position + count), (batch, 1))
        values = {name: ort.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
        values |= dict(zip(self._past, past, strict=True))
        out = dict(zip(self._outputs, self._session.run_with_ort_values(self._outputs, values), strict=True))
        present = [out[name.replace("past_key_values", "present")] for name in self._past]
        return out["logits"].numpy()[:, -1].argmax(-1)[:, None], present


def prepare(model: Path, out: Path, variant: str) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from optimum.exporters.onnx import main_export

    exported = out if variant == "float32" else out / "float32"
    main_export(
        str(model), exported, task="text-generation-with-past", local_files_only=True, do_validation=False
    )
    if variant == "int8":
        source = exported / "model.onnx"
        quantize_dynamic(source, out / "model.onnx", per_channel=True, weight_type=QuantType.QInt8)
        shutil.rmtree(exported)


if __name__ == "__main__":
    worker.main(prepare, OnnxRuntime)
