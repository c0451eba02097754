"""How does a peer talk to the driver? One JSON line in, one JSON line out; standard library only.

    python peer_x.py prepare --model FOLDER --out FOLDER --variant int8        converts
    python peer_x.py serve   --model FOLDER --variant int8 --threads 2         loads and serves

`serve` says `{"ready": true, ...}` once it has made its first token: the driver's clock, which
started with the process, stops then. Each request `{"task": ...}` gets `{"ok": true, ...}` or
`{"ok": false, "error": ...}`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any, Protocol

VOCABULARY = 50257


class Engine(Protocol):
    """What a peer must be able to do. Prompts are ids, of equal length; end-of-text does not end a reply."""

    versions: dict[str, str]

    def prefill(self, prompt: list[int]) -> float:
        """Seconds from an unknown prompt to its first token."""

    def decode(self, prompts: list[list[int]], new_tokens: int) -> float:
        """Seconds from the first to the last of `new_tokens` greedy tokens of all prompts at once."""


class Extras(Protocol):
    """What only some can do."""

    def chat(self, turns: int, message_tokens: int, reply_tokens: int) -> list[float]:
        """Seconds to the first token of the second and of the last turn."""

    def roofs(self) -> dict[str, Any]:
        """What the machine could do at best."""

    def startup(self) -> tuple[float, int]:
        """Seconds and peak bytes of a process up to its first token, where it is not this process."""


def prompt_ids(tokens: int, start: int = 0) -> list[int]:
    """The prompts of all peers: fixed, different for each `start`, without end-of-text."""
    return [(7 * i + 131 * start + 1) % (VOCABULARY - 1) for i in range(tokens)]


def peak_rss_bytes() -> int:
    """This process's peak. On Linux not getrusage, whose value survives exec and may be the parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main(prepare: Any, load: Any) -> None:
    """`prepare(model, out, variant)` converts; `load(model, variant, threads)` returns an Engine."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("prepare", "serve"):
        command = commands.add_parser(name)
        command.add_argument("--model", type=Path, required=True)
        command.add_argument("--variant", required=True)
    commands.choices["prepare"].add_argument("--out", type=Path, required=True)
    commands.choices["serve"].add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()
    if arguments.command == "prepare":
        prepare(arguments.model, arguments.out, arguments.variant)
    else:
        _serve(load, arguments.model, arguments.variant, arguments.threads)


def _serve(load: Any, model: Path, variant: str, threads: int) -> None:
    # Libraries print what they like: the answers keep the real standard output for themselves.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    engine = load(model, variant, threads)
    engine.prefill(prompt_ids(32))
    ready = {"ready": True, "peak_rss_bytes": peak_rss_bytes()}
    print(json.dumps(ready), file=answers)
    for line in sys.stdin:
        try:
            answer = {"ok": True} | _answer(engine, json.loads(line))
        except Exception as error:
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers)


def _answer(engine: Any, request: dict[str, Any]) -> dict[str, Any]:
    task, repeats = request["task"], request.get("repeats", 1)
    if task == "versions":
        return {"versions": engine.versions}
    if task == "prefill":
        tokens = request["tokens"]
        engine.prefill(prompt_ids(tokens, start=99))  # warm: buffers of this size exist, kernels are chosen
        seconds = [engine.prefill(prompt_ids(tokens, start=i)) for i in range(repeats)]
        return {"tokens_per_s": [tokens / s for s in seconds]}
    if task == "decode":
        prompts = [prompt_ids(request["prompt_tokens"], start=i) for i in range(request["sequences"])]
        engine.decode(prompts, 4)
        new = request["new_tokens"]
        seconds = [engine.decode(prompts, new) for _ in range(repeats)]
        return {"tokens_per_s": [len(prompts) * (new - 1) / s for s in seconds]}
    if task == "idle":
        time.sleep(1)
        before = time.process_time()
        time.sleep(1)
        return {"cpu_percent": 100 * (time.process_time() - before)}
    if not hasattr(engine, task):
        return {"unsupported": True}
    return {"result": getattr(engine, task)(**request.get("arguments", {}))}
