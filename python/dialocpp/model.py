"""What can one do with a model: generate, read logits, score?"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _core
from .bad_words import word_guard
from .chat_format import Turn, turn_ids
from .checkpoint import LoadedCheckpoint, load_checkpoint
from .config import ModelConfig
from .decoding import GREEDY, GenerationConfig, fresh_seed, override
from .errors import BackendError, CapacityError
from .reply import Generation, timings_of, usage_of
from .scheduler import Request, Scheduler
from .text import Tokenizer

Prompt = str | Sequence[int]


@dataclass(frozen=True)
class Score:
    """log P of each token of a reply, its end-of-text included, given all before it (natural logarithm)."""

    token_ids: tuple[int, ...]
    logprobs: npt.NDArray[np.float32]

    @property
    def total(self) -> float:
        """log P of the whole reply."""
        return float(self.logprobs.sum(dtype=np.float64))

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-probability of a token."""
        return math.exp(-self.total / len(self.logprobs))


class Model:
    """A GPT-2 in memory, for any number of sessions and threads.

    `num_threads=None`: physical cores, within the process's affinity and its cgroup's quota. `kv_cache_bytes` bounds
    the keys and values of all sequences together (None: a quarter of the machine's memory).
    """

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        *,
        device: str = "auto",
        num_threads: int | None = None,
        kv_cache_bytes: int | None = None,
    ) -> None:
        _check_device(device)
        self.name = checkpoint.name
        self.config: ModelConfig = checkpoint.config
        self.dtype = checkpoint.dtype
        self.tokenizer = Tokenizer.from_folder(checkpoint.folder, checkpoint.config.eos_token_ids)
        self.eos_token_ids: tuple[int, ...] = checkpoint.config.eos_token_ids or (self.tokenizer.eos_token_id,)
        self._checkpoint = checkpoint
        weights = _core.Model(checkpoint.config.to_core(), checkpoint.tensors)
        self.weight_bytes = weights.weight_bytes
        self._engine = _core.Engine(
            weights,
            _core.default_num_threads() if num_threads is None else num_threads,
            _quarter_of_memory() if kv_cache_bytes is None else kv_cache_bytes,
        )
        self._scheduler = Scheduler(self._engine)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        dtype: str = "auto",
        device: str = "auto",
        num_threads: int | None = None,
        kv_cache_bytes: int | None = None,
    ) -> Model:
        """Load a folder, a Hub id, or for None the small model that comes with the package.

        `dtype`: `float32`, `float16` (weights in half precision, arithmetic in float32: the same logits for a model
        that is stored in float16, as DialoGPT is, at half the memory), `int8`, or `auto`, which is int8 on a CPU.
        CheckpointError when the files are missing, damaged, unreachable or not those of a GPT-2; BackendError when
        this machine cannot run it.
        """
        _check_device(device)
        checkpoint = load_checkpoint(
            name_or_path,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            dtype=dtype,
        )
        return cls(checkpoint, device=device, num_threads=num_threads, kv_cache_bytes=kv_cache_bytes)

    @property
    def num_threads(self) -> int:
        """Threads that a step uses."""
        return self._engine.num_threads

    @property
    def folder(self) -> Path:
        """Where the model's files lie."""
        return self._checkpoint.folder

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the source's weights, the same for a float32 model and its int8 copy."""
        return self._checkpoint.fingerprint

    @property
    def kv_bytes_in_use(self) -> int:
        """Bytes of keys and values that live sequences hold."""
        return self._engine.kv_bytes_in_use

    def generate(
        self, prompts: Prompt | Sequence[Prompt], generation_config: GenerationConfig = GREEDY, **generation: Any
    ) -> list[Generation]:
        """Continue each prompt; all of them run together, and each gets what it would get alone.

        A string is taken as it is, special tokens in it included; ids are taken as they are. The arguments are
        GenerationConfig's, greedy by default. With a seed, prompt i uses seed + i. ValueError or TypeError for a bad
        argument, CapacityError for a prompt that leaves no position for a reply.
        """
        config = override(generation_config, generation)
        seed = fresh_seed() if config.seed is None else config.seed
        batch = [self._encode(prompt) for prompt in _as_batch(prompts)]
        requests = [
            self.request(self.new_sequence(), ids, config, seed=(seed + i) % 2**64, penalty_start=0)
            for i, ids in enumerate(batch)
        ]
        with self.running(requests):
            for request in requests:
                while self._scheduler.next_token(request) is not None:
                    pass
        return [
            Generation(
                text=self.tokenizer.decode(request.reply_ids, skip_special_tokens=True),
                token_ids=tuple(request.reply_ids),
                finish_reason=request.finish_reason or "",
                seed=(seed + i) % 2**64,
                usage=usage_of(request),
                timings=timings_of(request),
            )
            for i, request in enumerate(requests)
        ]

    def logits(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """The logits after each token: float32 (T, V). ValueError for an id outside the vocabulary."""
        return self._engine.logits(_checked_ids(ids))

    def logprobs(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """log P of each token but the first, given all before it: float32 (T - 1,)."""
        return self._engine.logprobs(_checked_ids(ids))

    def score(self, context: Sequence[str], reply: str) -> Score:
        """How probable is this reply after these turns? An empty reply is the end-of-text alone.

        ValueError when there is no context.
        """
        if isinstance(context, str) or not context:
            raise ValueError("context must be a list of at least one turn, oldest first.")
        turns = [Turn("user", text, tuple(self.tokenizer.encode(text))) for text in (*context, reply)]
        ids = turn_ids(turns, self.tokenizer.eos_token_id)
        length = len(turns[-1])
        return Score(tuple(ids[-length:]), self.logprobs(ids)[-length:])

    # For sessions: a request's life.

    def new_sequence(self) -> _core.Sequence:
        """An empty sequence; its pages are freed when it is dropped."""
        return self._engine.sequence()

    def request(
        self,
        sequence: _core.Sequence,
        prompt: list[int],
        config: GenerationConfig,
        *,
        seed: int,
        penalty_start: int,
    ) -> Request:
        """A request for one reply, not yet submitted. Penalties look at positions from `penalty_start` on."""
        if len(prompt) > self.config.n_positions:
            raise CapacityError(
                f"The prompt has {len(prompt)} tokens, but the model has {self.config.n_positions} positions; "
                "shorten it."
            )
        eos_token_ids = config.eos_token_ids(self.eos_token_ids)
        config.check_token_ids(self.config.vocab_size)
        guard = word_guard(self.tokenizer, config.bad_words) if config.bad_words else None
        sampling = config.sampling(
            eos_token_ids=eos_token_ids,
            seed=seed,
            reply_start=len(prompt),
            penalty_start=penalty_start,
            # The last token needs no position of its own: no step appends it.
            max_length=min(len(prompt) + config.max_new_tokens, self.config.n_positions + 1),
            banned_ids=guard.always if guard else (),
        )
        return Request(
            sequence, prompt, sampling, config.max_new_tokens, eos_token_ids, self.config.n_positions
        )

    @contextmanager
    def running(self, requests: Sequence[Request]) -> Iterator[Scheduler]:
        """The requests are served until the block is left, by whatever way."""
        try:
            for request in requests:
                self._scheduler.submit(request)
            yield self._scheduler
        finally:
            for request in requests:
                self._scheduler.cancel(request)

    @property
    def scheduler(self) -> Scheduler:
        """Serves the requests of all callers."""
        return self._scheduler

    def _encode(self, prompt: Prompt) -> list[int]:
        ids = self.tokenizer.encode(prompt, special_tokens=True) if isinstance(prompt, str) else _checked_ids(prompt)
        if not ids:
            raise ValueError("A prompt must hold at least one token, but is empty.")
        return ids


def _check_device(device: str) -> None:
    if device not in ("auto", "cpu"):
        if device == "cuda":
            raise BackendError("device='cuda' needs a build with CUDA, but this one has none; use device='cpu'.")
        raise ValueError(f"device must be auto or cpu, but is {device!r}.")


def _check_listing(name: str, value: object) -> None:
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(f"{name}, but is a {type(value).__name__}.")


def _as_batch(prompts: Prompt | Sequence[Prompt]) -> Sequence[Prompt]:
    if isinstance(prompts, str):
        return [prompts]
    _check_listing("prompts must be a str, a list of token ids or a list of prompts", prompts)
    is_ids = len(prompts) > 0 and not isinstance(prompts[0], (str, list, tuple, np.ndarray))
    return [prompts] if is_ids else prompts  # type: ignore[list-item, return-value]


def _checked_ids(ids: Sequence[int]) -> list[int]:
    """Plain ints that fit the core's int32; the core checks them against the vocabulary."""
    _check_listing("Token ids must be a list of integers", ids)
    checked = []
    for id_ in ids:
        if isinstance(id_, bool) or not isinstance(id_, (int, np.integer)):
            raise TypeError(f"Token ids must be integers, but one is {id_!r}.")
        if not -(2**31) <= id_ < 2**31:
            raise ValueError(f"Token ids must be below the vocabulary's size, but one is {id_}.")
        checked.append(int(id_))
    return checked


def _quarter_of_memory() -> int:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = 8 << 30
    return max(total // 4, 256 << 20)
