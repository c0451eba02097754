"""What can one do with a model: generate, read logits, score?"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from . import _core
from .checkpoint import LoadedCheckpoint, Source, load_checkpoint
from .checkpoint.config import ModelConfig
from .checkpoint.files import GENERATION_CONFIG
from .checkpoint.foreign_arguments import refuse_foreign
from .decoding.generation_config import GenerationConfig, override
from .decoding.model_defaults import ModelDefaults
from .decoding.seeds import fresh_seed
from .engine.generate import generate
from .engine.results import Generation
from .engine.runtime import Runtime
from .engine.scheduler import Scheduler
from .engine.scoring import outputs_after, score_after
from .errors import BackendError, CheckpointWarning
from .prompt.truncation import truncated
from .prompt.turns import Turn, turn_ids
from .text.tokenizer import Tokenizer

# The arguments of from_pretrained beside the name.
_LOADING = (
    *("revision", "cache_dir", "local_files_only", "token", "subfolder", "tokenizer"),
    *("dtype", "device", "num_threads", "kv_cache_bytes"),
)

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


@dataclass(frozen=True)
class Choice:
    """One of several given replies. `probability` is that among them; `score.total` is log P of the reply."""

    text: str
    probability: float
    score: Score


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
        self.n_positions = checkpoint.config.n_positions
        self.vocab_size = checkpoint.config.vocab_size
        self.dtype = checkpoint.dtype
        self.tokenizer = Tokenizer.from_folder(
            checkpoint.tokenizer_folder, checkpoint.config.eos_token_ids, rows=checkpoint.config.vocab_size
        )
        self.eos_token_ids: tuple[int, ...] = checkpoint.config.eos_token_ids or (self.tokenizer.eos_token_id,)
        self.generation_defaults = _defaults_of(checkpoint)
        self._checkpoint = checkpoint
        weights = _core.Weights(checkpoint.config.to_core(), checkpoint.tensors)
        self.weight_bytes = weights.weight_bytes
        engine = _core.Engine(
            weights,
            _core.default_num_threads() if num_threads is None else num_threads,
            _quarter_of_memory() if kv_cache_bytes is None else kv_cache_bytes,
        )
        self._runtime = Runtime(
            name=self.name,
            tokenizer=self.tokenizer,
            eos_token_ids=self.eos_token_ids,
            n_positions=self.n_positions,
            vocab_size=self.vocab_size,
            engine=engine,
            scheduler=Scheduler(engine),
            ranks=self.config.num_labels > 0,
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        revision: str | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        local_files_only: bool = False,
        token: str | bool | None = None,
        subfolder: str = "",
        tokenizer: str | os.PathLike[str] | None = None,
        dtype: str = "auto",
        device: str = "auto",
        num_threads: int | None = None,
        kv_cache_bytes: int | None = None,
        **foreign: Any,
    ) -> Model:
        """Load a folder, a Hub id, or for None the small model that comes with the package.

        `subfolder`: where in it the model lies. `tokenizer`: the folder or Hub id of a tokenizer from elsewhere, with
        its chat template. An argument of another library is a TypeError that says what to do instead.

        `dtype`: `float32`, `float16` (weights in half precision, arithmetic in float32: the same logits for a model
        that is stored in float16, as DialoGPT is, at half the memory), `int8`, or `auto`, which is int8 on a CPU.
        CheckpointError when the files are missing, damaged, unreachable or not those of a GPT-2; BackendError when
        this machine cannot run it.
        """
        _check_device(device)
        refuse_foreign(foreign, _LOADING)
        source = Source(name_or_path, revision, cache_dir, local_files_only, token, subfolder)
        theirs = None if tokenizer is None else replace(source, name=tokenizer, revision=None, subfolder="")
        checkpoint = load_checkpoint(source, dtype=dtype, tokenizer=theirs)
        return cls(checkpoint, device=device, num_threads=num_threads, kv_cache_bytes=kv_cache_bytes)

    def __copy__(self) -> Model:
        return self  # nothing of it changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "expected something that can be pickled, found a Model; give its name or folder to the other process and "
            "load it there with Model.from_pretrained, which shares the weights' memory"
        )

    @property
    def runtime(self) -> Runtime:
        """The model at work: for sessions, rankers and servers, which submit requests of their own."""
        return self._runtime

    @property
    def num_threads(self) -> int:
        """Threads that a step uses."""
        return self._runtime.engine.num_threads

    @property
    def folder(self) -> Path:
        """Where the model's files lie."""
        return self._checkpoint.folder

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer's files lie, its chat template among them."""
        return self._checkpoint.tokenizer_folder

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the source's weights, the same for a float32 model and its int8 copy."""
        return self._checkpoint.fingerprint

    @property
    def kv_bytes_in_use(self) -> int:
        """Bytes of keys and values that live sequences hold."""
        return self._runtime.engine.kv_bytes_in_use

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        generation_config: GenerationConfig | None = None,
        *,
        truncation: str | None = None,
        **generation: Any,
    ) -> list[Generation]:
        """Continue each prompt; all of them run together, and each gets what it would get alone.

        A string is taken as it is, special tokens in it included; ids are taken as they are. The arguments are
        GenerationConfig's, on top of what the model's generation_config.json says, as in transformers; where there is
        none, decoding is greedy. A `generation_config` takes the file's place as a whole. With `num_return_sequences=n`
        each prompt has n results in a row, the best first with beams; result i uses seed + i. ValueError or TypeError
        for a bad argument, CapacityError for a prompt that leaves no position for a reply.

        `truncation="left"` drops the oldest tokens of a prompt that leaves no room for `max_new_tokens`; half of the
        positions are the prompt's in any case.
        """
        self._runtime.check_writes()
        ids = [self._encode(prompt) for prompt in _as_batch(prompts)]
        if truncation is not None:
            plain = generation_config or self.generation_defaults.for_prompts({}, [1])[0]
            reply = override(plain, generation).max_new_tokens
            room = self.n_positions + 1 - min(reply, self.n_positions // 2)  # a reply's last token needs no position
            ids = [truncated(prompt, room, truncation) for prompt in ids]
        if generation_config is None:
            configs = self.generation_defaults.for_prompts(generation, [len(prompt) for prompt in ids])
        else:
            configs = [override(generation_config, generation)] * len(ids)
        given = configs[0].seed if configs else None
        return generate(self._runtime, ids, configs, fresh_seed() if given is None else given)

    def logits(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """The logits after each token: float32 (T, V). ValueError for an id outside the vocabulary.

        Of a model that ranks (T, num_labels); the last row is the text's.
        """
        return self._runtime.engine.logits(self._checked_ids(ids))

    def logprobs(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        """log P of each token but the first, given all before it: float32 (T - 1,)."""
        self._runtime.check_writes()
        return self._runtime.engine.logprobs(self._checked_ids(ids))

    def _checked_ids(self, ids: Sequence[int]) -> list[int]:
        """Their number comes first: memory is taken for each of them."""
        _check_listing("token ids to be a list of integers", ids)
        self._runtime.check_positions(len(ids), "a sequence")
        return _checked_ids(ids)

    def score(self, context: Sequence[str], reply: str, *, truncation: str | None = None) -> Score:
        """How probable is this reply after these turns? An empty reply is the end-of-text alone.

        ValueError when there is no context, CapacityError when both do not fit; `truncation="left"` drops the oldest
        tokens of the context instead.
        """
        return self.score_replies(context, [reply], truncation=truncation)[0]

    def score_replies(
        self, context: Sequence[str], replies: Sequence[str], *, truncation: str | None = None
    ) -> list[Score]:
        """`score` of several replies to the same context, which is read once, in one batch.

        With `truncation="left"` all are scored after the same tokens: what the longest leaves room for.
        """
        self._runtime.check_writes()
        _check_listing("replies to be a list of texts", replies)
        prefix = turn_ids(self._context(context), self.tokenizer.eos_token_id)
        endings = [turn_ids([self._turn(reply)], self.tokenizer.eos_token_id) for reply in replies]
        prefix = truncated(prefix, self.n_positions - max(map(len, endings), default=0), truncation)
        scored = score_after(self._runtime, prefix, endings)
        return [Score(tuple(ids), np.array(row, np.float32)) for ids, row in zip(endings, scored, strict=True)]

    def choose(
        self, context: Sequence[str], choices: Sequence[str], *, truncation: str | None = None
    ) -> list[Choice]:
        """Which of these replies would the model give? All of them, the most probable first.

        P(choice | context, one of the choices is said); all are scored in one batch. ValueError for no choice or no
        context. `truncation` as in `score_replies`.
        """
        scores = self.score_replies(context, choices, truncation=truncation)
        if not scores:
            raise ValueError("expected choices to hold at least one text, found none; give one")
        totals = np.array([score.total for score in scores])
        weights = np.exp(totals - totals.max())
        chosen = [
            Choice(text, float(weight), score)
            for text, weight, score in zip(choices, weights / weights.sum(), scores, strict=True)
        ]
        return sorted(chosen, key=lambda choice: -choice.probability)

    def rank(
        self, context: Sequence[str], replies: Sequence[str], *, truncation: str | None = None
    ) -> list[float]:
        """How good is each reply after these turns, from 0 to 1? For a classifier with one label, as DialogRPT.

        The model reads turn, end-of-text, turn, end-of-text, …, reply; the score is the sigmoid of the logit after the
        reply's last token (Gao et al. 2020, arXiv:2009.06978). ValueError for a model that writes or has several labels
        (`logits` shows those), for no context, or for an empty reply; CapacityError for one that does not fit,
        unless `truncation` is "left", as in `score_replies`.
        """
        self._check_ranks()
        _check_listing("replies to be a list of texts", replies)
        context_ids = turn_ids(self._context(context), self.tokenizer.eos_token_id)
        texts = [self._turn(reply).token_ids for reply in replies]
        if not all(texts):
            number = texts.index(())
            raise ValueError(f"expected some text in each reply, found none in number {number} (from 0); remove it")
        context_ids = truncated(context_ids, self.n_positions - max(map(len, texts), default=0), truncation)
        outputs = outputs_after(self._runtime, context_ids, [list(ids) for ids in texts])
        return [_sigmoid(float(row[0])) for row in outputs]

    def _encode(self, prompt: Prompt) -> list[int]:
        ids = self.tokenizer.encode(prompt, special_tokens=True) if isinstance(prompt, str) else _checked_ids(prompt)
        if not ids:
            raise ValueError("expected a prompt of at least one token, found an empty one; give some text")
        return ids

    def _check_ranks(self) -> None:
        if self.config.num_labels == 0:
            raise ValueError(
                f"expected a model that ranks, found {self.name}, which writes replies; use Model.score, or load one "
                "that ranks, such as microsoft/DialogRPT-updown"
            )
        if self.config.num_labels > 1:
            raise ValueError(
                f"expected a model with one label, found {self.config.num_labels} in {self.name}; read Model.logits"
            )

    def _turn(self, text: str) -> Turn:
        return Turn("user", text, tuple(self.tokenizer.encode(text)))

    def _context(self, context: Sequence[str]) -> list[Turn]:
        if isinstance(context, str) or not context:
            raise ValueError(
                f"expected context to be a list of at least one turn, oldest first, found {context!r}; give one"
            )
        return [self._turn(text) for text in context]


def _defaults_of(checkpoint: LoadedCheckpoint) -> ModelDefaults:
    """What generation_config.json says, with a CheckpointWarning for what of it does not count."""
    if checkpoint.config.num_labels:
        return ModelDefaults()
    defaults = ModelDefaults.of(checkpoint.generation_config, checkpoint.config.vocab_size)
    if defaults.problems:
        warnings.warn(
            f"{checkpoint.folder / GENERATION_CONFIG}: {'; '.join(defaults.problems)}; this is left out",
            CheckpointWarning,
            stacklevel=3,
        )
    return defaults


def _check_device(device: str) -> None:
    if device not in ("auto", "cpu"):
        if device == "cuda":
            raise BackendError("expected a build with CUDA for device='cuda', found one without; use device='cpu'")
        raise ValueError(f"expected device to be auto or cpu, found {device!r}; use one of them")


def _check_listing(wanted: str, value: object) -> None:
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, (Sequence, np.ndarray)):
        raise TypeError(f"expected {wanted}, found a value of type {type(value).__name__}; convert it")


def _as_batch(prompts: Prompt | Sequence[Prompt]) -> Sequence[Prompt]:
    if isinstance(prompts, str):
        return [prompts]
    _check_listing("prompts to be a str, a list of token ids or a list of prompts", prompts)
    is_ids = len(prompts) > 0 and not isinstance(prompts[0], (str, list, tuple, np.ndarray))
    return [prompts] if is_ids else prompts  # type: ignore[list-item, return-value]


def _checked_ids(ids: Sequence[int]) -> list[int]:
    """Plain ints that fit the core's int32; the core checks them against the vocabulary."""
    _check_listing("token ids to be a list of integers", ids)
    checked = []
    for id_ in ids:
        if isinstance(id_, bool) or not isinstance(id_, (int, np.integer)):
            raise TypeError(f"expected token ids to be integers, found {id_!r}; convert or remove it")
        if not -(2**31) <= id_ < 2**31:
            raise ValueError(f"expected token ids below the vocabulary's size, found {id_}; remove it")
        checked.append(int(id_))
    return checked


def _sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)) without overflow."""
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def _quarter_of_memory() -> int:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        total = 8 << 30
    return max(total // 4, 256 << 20)
