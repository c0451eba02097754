"""How is a peer's process started, asked and ended?"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from peers import ISA_SWITCHES, Cache, Peer

HERE = Path(__file__).parent
# Seconds that one answer may take: a large shape in float32 on one thread is slow.
PATIENCE = 900


class PeerError(Exception):
    """A peer that cannot be measured, and why."""


def environment(cache: Cache, peer: Peer, threads: int, isa: str | None) -> dict[str, str]:
    """The variables of a peer's process: offline, so many threads, held to an instruction set."""
    if isa and peer.engine not in ISA_SWITCHES[isa]:
        raise PeerError(f"has no switch for {isa}")
    switches = ISA_SWITCHES[isa][peer.engine] if isa else {}
    build = cache.llama_build(switches.get("LLAMA_BUILD", "native"))
    limits = {f"{library}_NUM_THREADS": str(threads) for library in ("OMP", "MKL", "OPENBLAS")}
    return {
        **os.environ,
        **limits,
        **switches,
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "LLAMA_SOURCE": str(cache.llama_source),
        "LLAMA_PROGRAMS": str(build / "bin"),
    }


def interpreter(cache: Cache, peer: Peer) -> Path:
    """dialocpp is measured as it is installed for the driver; the others live on their own."""
    python = Path(sys.executable) if peer.engine == "dialocpp" else cache.python(peer.engine)
    if not python.exists():
        raise PeerError("is not set up")
    return python


def script(peer: Peer) -> str:
    """The one file that knows this engine."""
    return str(HERE / f"peer_{peer.engine}.py")


class PeerProcess:
    """A running peer. Starting it measures the cold start: process start to first token."""

    def __init__(self, cache: Cache, peer: Peer, shape: str, threads: int, isa: str | None) -> None:
        model = cache.prepared(shape, peer)
        if not model.exists():
            raise PeerError(f"has no model of shape {shape}: run setup.py")
        command = [str(interpreter(cache, peer)), script(peer), "serve", "--model", str(model)]
        command += ["--variant", peer.variant, "--threads", str(threads)]
        variables = environment(cache, peer, threads, isa)
        start = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=variables,
        )
        try:
            ready = self._read()
        except BaseException:
            self.close()
            raise
        self.cold_start = time.perf_counter() - start
        self.peak_rss_bytes: int = ready["peak_rss_bytes"]

    def ask(self, task: str, **request: Any) -> dict[str, Any]:
        """The answer to one request; PeerError if the peer could not do it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"task": task, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise PeerError(self._last_words()) from None
        answer = self._read()
        if not answer["ok"]:
            raise PeerError(answer["error"])
        return answer

    def close(self) -> None:
        """End of input is the signal to stop."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        readable, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        if not readable:
            self._process.kill()
            raise PeerError(f"gave no answer within {PATIENCE} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        assert self._process.stderr is not None
        lines = self._process.stderr.read().strip().splitlines()
        return f"ended: {lines[-1]}" if lines else "ended without a word"
