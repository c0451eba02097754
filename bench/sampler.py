"""What does each sampling rule cost, in microseconds for a row of 50,257 logits on one thread?

The rows are normal with standard deviation 3; the history has 300 tokens, 20 of them the reply. The least of several
runs; each row is copied before the choice, as a step would have written it anew, and the copy is counted.
"""

import argparse
import time
from typing import Any

import numpy as np
from dialocpp import _core
from dialocpp.checkpoint import load_checkpoint
from dialocpp.decoding.bad_words import bad_words
from dialocpp.text.tokenizer import Tokenizer

V, HISTORY, REPLY = 50257, 300, 20
DRAW: dict[str, Any] = {"do_sample": True, "top_k": 50}


def rules() -> dict[str, dict[str, Any]]:
    """A row of the table -> arguments of `_core.SamplingParams`."""
    rng = np.random.default_rng(1)
    words = [rng.integers(0, V, 1 + i % 3).tolist() for i in range(300)]
    processors: dict[str, Any] = {
        "sequence_bias": [(ids, -2.0) for ids in words],
        "repetition_penalty": 1.2,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "no_repeat_ngram_size": 3,
        "bad_words_ids": words,
        "min_new_tokens": 30,
        "suppress_tokens": rng.integers(0, V, 300).tolist(),
        "eos_token_ids": [V - 1],
    }
    warpers: dict[str, Any] = {
        "temperature": 0.8,
        "top_p": 0.95,
        "min_p": 0.01,
        "typical_p": 0.95,
        "epsilon_cutoff": 3e-4,
        "eta_cutoff": 3e-4,
    }
    table: dict[str, dict[str, Any]] = {"greedy": {}}
    table |= {f"greedy, {name}": {name: value} for name, value in processors.items() if name != "eos_token_ids"}
    table |= {"greedy, all processors": processors, "top_k 50": DRAW}
    table |= {f"top_k 50, {name}": DRAW | {name: value} for name, value in warpers.items()}
    table |= {"top_k 50, all rules": DRAW | processors | warpers}
    table |= {"all 50,257 tokens": DRAW | {"top_k": 0}}
    table |= {f"all tokens, {name}": DRAW | {"top_k": 0, name: value} for name, value in warpers.items()}
    return table | {"all tokens, all rules": DRAW | {"top_k": 0} | processors | warpers}


def microseconds(arguments: dict[str, Any], logits: Any, tokens: list[int], runs: int) -> float:
    sampling = _core.SamplingParams(reply_start=HISTORY - REPLY, **arguments)
    rows, best = 100, float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        _core.testing.choose(sampling, tokens, logits, range(rows))
        best = min(best, (time.perf_counter() - start) / rows)
    return best * 1e6


def bad_word_microseconds(runs: int) -> float:
    """The guard of `bad_words` after each token of a text of the bundled model, whose bans are known already."""
    checkpoint = load_checkpoint(None)
    tokenizer = Tokenizer.from_folder(checkpoint.folder, checkpoint.config.eos_token_ids)
    guard = bad_words(tokenizer, [f"{a}{b}{c}" for a in "bdfgp" for b in "aeiou" for c in ("d", "ll", "st", "mn")])
    ids = tokenizer.encode("What is the best way to buy happiness ? You should not tell me what you want, pal !")
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        for length in range(len(ids)):
            guard.bans(ids[:length])
        best = min(best, (time.perf_counter() - start) / len(ids))
    return best * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    rng = np.random.default_rng(0)
    logits = rng.standard_normal(V, dtype=np.float32) * np.float32(3) - np.float32(40)
    tokens = rng.integers(0, V, HISTORY).tolist()
    for name, arguments in rules().items():
        print(f"{name:36} {microseconds(arguments, logits, tokens, runs):8.1f} µs")
    print(f"{'bad_words: 100 words, in Python':36} {bad_word_microseconds(runs):8.1f} µs")


if __name__ == "__main__":
    main()
