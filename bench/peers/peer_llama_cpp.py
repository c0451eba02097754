"""llama.cpp, by its own programs: llama-bench for one sequence, llama-batched-bench for many.

Each request is a process of its own; loading is outside of its clock and llama-bench warms up by itself.
LLAMA_PROGRAMS names the folder of the build.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import worker


class LlamaCpp:
    """A GGUF file and the programs that measure it."""

    def __init__(self, model: Path, variant: str, threads: int) -> None:
        self._model = model / f"{variant}.gguf"
        self._threads = str(threads)
        self._programs = Path(os.environ["LLAMA_PROGRAMS"])
        if not (self._programs / "llama-bench").is_file():
            raise SystemExit(f"{self._programs.parent.name} is not built: see setup.py --llama-build")
        self.versions: dict[str, str] = {}

    def prefill(self, prompt: list[int]) -> float:
        return len(prompt) / self._bench("-p", str(len(prompt)), "-n", "0")

    def decode(self, prompts: list[list[int]], new_tokens: int) -> float:
        steps = new_tokens - 1
        if len(prompts) == 1:
            return steps / self._bench("-p", "0", "-n", str(steps), "-d", str(len(prompts[0])))
        sizes = {"-npp": len(prompts[0]), "-ntg": steps, "-npl": len(prompts)}
        sizes |= {"-c": len(prompts) * (len(prompts[0]) + new_tokens), "-b": 2048, "-ub": 512}
        options = [str(part) for pair in sizes.items() for part in pair]
        output = self._run(
            "llama-batched-bench",
            "-t",
            self._threads,
            "-tb",
            self._threads,
            *options,
            "--output-format",
            "jsonl",
        )
        (line,) = [line for line in output.splitlines() if line.startswith("{")]
        return json.loads(line)["t_tg"]

    def startup(self) -> tuple[float, int]:
        """A process that loads and reads a prompt of 32 tokens, and its peak memory."""
        start = time.perf_counter()
        command = self._command(
            "llama-bench", "-t", self._threads, "-p", "32", "-n", "0", "-r", "1", "--no-warmup"
        )
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RuntimeError(f"llama-bench ended with {process.returncode}")
        return time.perf_counter() - start, usage.ru_maxrss * 1024

    def _bench(self, *options: str) -> float:
        """Tokens per second."""
        results: list[dict[str, Any]] = json.loads(
            self._run("llama-bench", "-t", self._threads, "-r", "1", "-o", "json", *options)
        )
        self.versions = {"llama.cpp": str(results[0].get("build_number"))}
        return results[0]["avg_ts"]

    def _run(self, program: str, *options: str) -> str:
        done = subprocess.run(self._command(program, *options), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{program} ended with {done.returncode}: {done.stderr[-500:]}")
        return done.stdout

    def _command(self, program: str, *options: str) -> list[str]:
        return [str(self._programs / program), "-m", str(self._model), *options]


def prepare(model: Path, out: Path, variant: str) -> None:
    converter = Path(os.environ["LLAMA_SOURCE"]) / "convert_hf_to_gguf.py"
    out.mkdir(parents=True, exist_ok=True)
    target = out / f"{variant}.gguf"
    command = [sys.executable, str(converter), str(model), "--outfile", str(target), "--outtype", variant]
    # The converter comes with its own gguf package, which is newer than the one that pip knows.
    paths = os.pathsep.join([str(converter.parent / "gguf-py"), str(converter.parent)])
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": paths})


if __name__ == "__main__":
    worker.main(prepare, LlamaCpp)
