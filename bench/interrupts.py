"""How long does it take until Ctrl-C is heeded? SIGINT at random moments in each kind of call.

    python bench/interrupts.py --shape small --times 50

Milliseconds from the signal to the exception in the caller's hands: the median and the longest.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from dialocpp import ChatSession, Model
from dialocpp.benchmark.random_model import write_random_model

LINE, LONG = "Hello, how are you?", "word " * 200
LENGTH = {"max_new_tokens": 40, "min_new_tokens": 40}


def works(model: Model) -> dict[str, Callable[[], object]]:
    """One call of each kind."""

    def chat(**arguments: object) -> ChatSession:
        return ChatSession(model, seed=1, **LENGTH, **arguments)

    return {
        "load": lambda: Model.from_pretrained(model.folder),
        "reply": lambda: chat().reply(LINE),
        "long prompt": lambda: chat(window_tokens=1000).reply(LONG),
        "stream": lambda: list(chat().stream(LINE)),
        "batch of 16": lambda: model.generate([LINE] * 16, **LENGTH),
        "10 beams": lambda: chat(num_beams=10, do_sample=False).reply(LINE),
        "16 ranked": lambda: chat(reverse=model).reply(LINE),
    }


def reaction(work: Callable[[], object], delay: float) -> float | None:
    """Seconds from the signal to the exception; None if the call was over before."""
    sent = 0.0

    def send() -> None:
        nonlocal sent
        sent = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(delay, send)
    try:
        timer.start()
        work()
        timer.cancel()
        timer.join()
    except KeyboardInterrupt:
        return time.perf_counter() - sent
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="small")
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--threads", type=int, default=None)
    given = parser.parse_args()
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        path = write_random_model(Path(folder), given.shape)
        model = Model.from_pretrained(path, num_threads=given.threads)
        for name, work in works(model).items():
            work()
            begun = time.perf_counter()
            work()
            took = time.perf_counter() - begun
            found = [reaction(work, rng.uniform(0, took)) for _ in range(given.times)]
            times = [1000 * seconds for seconds in found if seconds is not None]
            print(
                f"{name:12} {1000 * took:7.0f} ms a call; {len(times):3} interrupted: median "
                f"{statistics.median(times):6.1f} ms, longest {max(times):6.1f} ms",
                flush=True,
            )


if __name__ == "__main__":
    main()
