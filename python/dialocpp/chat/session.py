"""How does one hold a conversation? Turns are owned here; positions and the cache are the core's."""

from __future__ import annotations

import copy
import dataclasses
import difflib
import os
import threading
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from dialocpp.chat import transcript
from dialocpp.decoding.generation_config import ARGUMENTS, CHAT, GenerationConfig, override
from dialocpp.decoding.seeds import derived_seed, fresh_seed
from dialocpp.engine.after_fork import renew_after_fork
from dialocpp.engine.background import in_background
from dialocpp.engine.results import Usage
from dialocpp.model import Model
from dialocpp.prompt.formats import resolve_format
from dialocpp.prompt.turns import Role, Turn, check_message
from dialocpp.prompt.window import Window

from .claim import Claim
from .config import SETTINGS, ChatSettings
from .guards import Guard
from .presets import preset_named
from .rankers import MMI
from .ranking import RankerArgument, Ranking
from .reply import Reply
from .reply_spec import Task
from .reply_stream import ReplyStream
from .reply_task import Answer
from .transcript import Exchange

_BY_REVERSE = "paper-mmi"


class ChatSession:
    """A conversation with a model. Sessions are cheap and share their model; each is for one caller at a time.

    `preset`: a name of PRESETS, or else `generation_config`. `arguments` are GenerationConfig's, for every reply (each
    call can override them), and ChatSettings': `num_candidates, max_retries, echo_guard, reply_filter, fallback,
    window_tokens, persona, chat_format`. `rankers` choose among candidates: objects with `name` and `score`,
    functions of (context, reply), or a list of these and of pairs (ranker, weight); then there are 16 candidates,
    unless `num_candidates` says otherwise. `reverse`: a reverse model to rank by, as the preset `paper-mmi` unless
    another is named. `max_time` holds for the whole answer: the best of as many candidates as fit.

    The default samples (top-k, top-p, no repeated 3-gram) and does not give a reply that is empty or was said before.
    `do_sample=False` is plain greedy decoding, which nothing alters unless it is asked for by name. With a `seed` the
    whole conversation can be repeated. ValueError for a model that ranks replies and cannot write one.
    """

    def __init__(
        self,
        model: Model,
        generation_config: GenerationConfig | None = None,
        *,
        preset: str | None = None,
        seed: int | None = None,
        rankers: RankerArgument = (),
        reverse: Model | None = None,
        **arguments: Any,
    ) -> None:
        model.runtime.check_writes()
        ranking = Ranking.of(rankers)
        settings, self.generation_config = _settings(
            generation_config, _BY_REVERSE if reverse and not generation_config and not preset else preset, arguments
        )
        if reverse is not None:
            ranking = ranking.also(MMI(reverse))
        if ranking and "num_candidates" not in arguments and settings.num_candidates == 1:
            settings = dataclasses.replace(settings, num_candidates=preset_named(_BY_REVERSE).num_candidates)
        GenerationConfig(seed=seed)  # TypeError or ValueError for what is no seed
        if self.generation_config.num_return_sequences > 1:
            raise ValueError("A session gives one reply; to choose among several, give num_candidates.")
        self._ranking = ranking
        given = {"rankers": bool(Ranking.of(rankers)), "reverse": reverse is not None}
        self._functions = [name for name in given if given[name]]
        if preset is not None and preset_named(preset).needs_reverse and not self._ranking:
            raise ValueError(f"The preset {preset!r} ranks by a reverse model; give one as reverse=.")
        self.model = model
        self.preset = preset
        self.settings = settings
        self.seed = fresh_seed() if seed is None else seed
        self._format = resolve_format(
            settings.chat_format, model.tokenizer, model.folder, model.name, settings.persona
        )
        self._pinned = len(self._format.encode(()))
        self._window(self.generation_config)  # CapacityError for a persona that leaves no room
        self._busy = threading.Lock()
        renew_after_fork(self)
        self._turns: list[Turn] = []
        self._exchanges: list[Exchange] = []
        self._unread = self._prepared = self._recomputed = 0
        self._forget()

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str] | None = None, *, seed: int | None = None, **arguments: Any
    ) -> ChatSession:
        """Load a model and talk to it: Model.from_pretrained's arguments, and a ChatSession's."""
        own = {"generation_config", "preset", "rankers", "reverse"} | ARGUMENTS | SETTINGS
        mine = {name: arguments.pop(name) for name in own & arguments.keys()}
        plain = {name: value for name, value in mine.items() if name not in ("rankers", "reverse")}
        # A bad argument is worth an error before the model is loaded.
        _settings(plain.pop("generation_config", None), plain.pop("preset", None), plain)
        return cls(Model.from_pretrained(name_or_path, **arguments), seed=seed, **mine)

    @property
    def history(self) -> list[dict[str, str]]:
        """All turns, oldest first, as `{"role": "user" | "assistant", "content": text}`; a copy."""
        return [{"role": turn.role, "content": turn.content} for turn in self._turns]

    @property
    def chat_format(self) -> str:
        """The name of the format that lays out the turns."""
        return self._format.name

    def reply(self, message: str, **generation: Any) -> Reply:
        """Say something and wait for the whole answer. Ctrl-C stops it and keeps what was already said."""
        with self.stream(message, **generation) as stream:
            for _ in stream:
                pass
            return stream.reply

    def stream(self, message: str, **generation: Any) -> ReplyStream:
        """Say something and read the answer piece by piece, in whole characters.

        Text is held back as long as it may still become a repetition; with several candidates or a filter, all of it
        comes once it is chosen. Leaving the loop early stops the reply; what was shown stays in the history.
        ValueError, TypeError or CapacityError come from this call, before anything has changed. A CapacityError can
        also come in mid-reply, when other conversations have filled the cache: it takes the whole exchange back, and
        the same call gives the same reply once there is room.
        """
        return self._start(generation, message)

    async def astream(self, message: str, **generation: Any) -> AsyncIterator[str]:
        """`stream` for asyncio: the event loop runs on while the model computes.

        A task that is cancelled leaves within one step, a long prompt's included; what was shown stays.
        """
        started: list[ReplyStream] = []  # not returned: a cancelled caller would never see it, and could not close it
        try:
            await in_background(lambda: started.append(self.stream(message, **generation)))
            stream = started[0]
            while (piece := await in_background(lambda: next(stream, None), stream.stop)) is not None:
                yield piece
        finally:
            if started:
                await in_background(started[0].close)

    def prepare(self) -> int:
        """Read now what the next message will follow on; returns how many tokens that were.

        For idle time, such as while the user types: after turns have left the window, the rest must be read again. It
        changes no reply, only when its time is spent. CapacityError if the cache is full.
        """
        with self._claimed():
            ids = self._format.encode(self._turns[self._next_first(self.generation_config, len(self._turns)) :])
            if not ids or self._sequence.tokens[: len(ids)] == ids:
                return 0
            request = self.model.runtime.request(
                self._sequence, ids, GenerationConfig(max_new_tokens=1), seed=0, penalty_start=len(ids)
            )
            with self.model.runtime.running([request]) as scheduler:
                scheduler.next_token(request)
            fresh = len(ids) - request.cached_tokens
            self._prepared += fresh
            self._recomputed += max(0, fresh - self._unread)
            self._unread = 0
            return fresh

    def undo(self) -> str:
        """Take back the last exchange; returns the message that began it. ValueError if there is none.

        Nothing is read again: the cache still holds what came before it.
        """
        with self._claimed():
            base = self._last_exchange()
            message = self._turns[base].content
            del self._turns[base:], self._exchanges[base // 2 :]
            self._unread = 0
            return message

    def regenerate(self, **generation: Any) -> Reply:
        """Answer the last message anew, with other random numbers. ValueError if there is none."""
        with self.regenerate_stream(**generation) as stream:
            for _ in stream:
                pass
            return stream.reply

    def regenerate_stream(self, **generation: Any) -> ReplyStream:
        """`regenerate`, piece by piece; the old answer stays until the new one has begun to be shown."""
        return self._start(generation, again=True)

    def fork(self) -> ChatSession:
        """A second conversation with the same past. The cache is shared until one of the two goes on."""
        with self._claimed():
            twin = copy.copy(self)
            twin._busy = threading.Lock()
            renew_after_fork(twin)
            twin._turns, twin._exchanges = list(self._turns), list(self._exchanges)
            twin._sequence = self._sequence.fork()
            return twin

    def reset(self) -> None:
        """Forget all turns and free the cache."""
        with self._claimed():
            self._forget()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation to a JSON file, whole or not at all. Functions and rankers are named, not written."""
        config, functions = self.generation_config, (*self.settings.functions(), *self._functions)
        if config.logits_processor is not None:
            functions = (*functions, "logits_processor")
        transcript.write(
            Path(path),
            transcript.Transcript(
                model=self.model.name,
                fingerprint=self.model.fingerprint,
                preset=self.preset,
                seed=self.seed,
                generation_config=dataclasses.replace(config, logits_processor=None),
                settings=self.settings.as_data(),
                functions=functions,
                exchanges=tuple(self._exchanges),
                turns=tuple(self._turns),
            ),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Model, **functions: Any) -> ChatSession:
        """Go on with a saved conversation. With another model than it was held with, its texts are encoded anew.

        `functions`: `reply_filter, chat_format, rankers, reverse`, for a session that had them. ValueError if the
        file is not a saved conversation, or lacks a function that it was held with.
        """
        saved = transcript.read(Path(path))
        missing = [name for name in saved.functions if name not in functions]
        if missing:
            raise ValueError(
                f"{path} was held with {missing[0]}, which a file cannot hold; give {missing[0]}= to load()."
            )
        if unknown := saved.settings.keys() - SETTINGS:
            raise ValueError(f"{path} is a damaged conversation: there is no setting {min(unknown)!r}.")
        try:
            chat = cls(model, saved.generation_config, seed=saved.seed, **(saved.settings | functions))
        except TypeError as error:
            raise ValueError(f"{path} is a damaged conversation: {error!r}.") from None
        chat.preset = saved.preset
        chat._unread = 0
        if saved.fingerprint == model.fingerprint:
            ids = [id_ for turn in saved.turns for id_ in turn.token_ids]
            if ids and max(ids) >= model.config.vocab_size:
                raise ValueError(f"{path} is a damaged conversation: the model has no token {max(ids)}.")
            chat._turns, chat._exchanges = list(saved.turns), list(saved.exchanges)
        else:
            chat._turns = [chat._turn(turn.role, turn.content) for turn in saved.turns]
            chat._exchanges = [Exchange(0, exchange.attempt) for exchange in saved.exchanges]
        return chat

    def renew_after_fork(self) -> None:
        """In a child after fork(): a reply that was being written is the parent's, and the session is free."""
        self._busy = threading.Lock()

    def _forget(self) -> None:
        self._turns, self._exchanges = [], []
        self._sequence = self.model.runtime.new_sequence()
        self._unread = self._pinned  # tokens at the end of the history that the model has never read
        self._prepared = self._recomputed = 0  # by prepare(), since the last reply

    def _turn(self, role: Role, text: str) -> Turn:
        return Turn(role, text, tuple(self.model.tokenizer.encode(text)))

    def _last_exchange(self) -> int:
        if not self._turns:
            raise ValueError("There is no turn yet; say something first.")
        return len(self._turns) - 2

    def _window(self, config: GenerationConfig) -> Window:
        positions = self.model.config.n_positions
        tokens = self.settings.history_tokens(config, positions)
        return Window.of(positions, self._pinned, tokens, config.max_new_tokens)

    def _next_first(self, config: GenerationConfig, base: int) -> int:
        """The oldest turn that stays visible behind the first `base` turns."""
        before = self._exchanges[base // 2 - 1].first_visible if base else 0
        return self._window(config).before_message(self._size(self._turns[:base]), base, before)

    def _size(self, turns: Sequence[Turn]) -> Any:
        return lambda first: len(self._format.encode(turns[first:]))

    def _start(self, arguments: dict[str, Any], message: str = "", *, again: bool = False) -> ReplyStream:
        """The answer to a message, or `again` to the last one."""
        claim = self._claimed()
        try:
            base = self._last_exchange() if again else len(self._turns)
            attempt = self._exchanges[base // 2].attempt + 1 if again else 0
            text = self._turns[base].content if again else message
            config = override(self.generation_config, arguments)
            turns = [*self._turns[:base], self._turn("user", check_message(text))]
            first = self._next_first(config, base)
            first = self._window(config).with_message(self._size(turns), len(turns), first)
            seed = derived_seed(self.seed, base, attempt) if config.seed is None else config.seed
            prompt = self._format.encode(turns[first:])
            read_before = len(self._format.encode(turns[first:-1])) - (0 if again else self._unread)
            answer = Answer(self.model.runtime, self._sequence, self._task(config, turns, first, prompt, seed))
            recomputed = max(0, read_before - answer.cached_tokens)
            commit = partial(self._commit, turns, Exchange(first, attempt), prompt, recomputed)
            return ReplyStream(claim, answer, commit)
        except BaseException:
            claim.release()
            raise

    def _task(self, config: GenerationConfig, turns: Sequence[Turn], first: int, prompt: list[int], seed: int) -> Task:
        settings = self.settings
        if config.eos_token_id is None and self._format.end_token_ids:
            config = dataclasses.replace(config, eos_token_id=self._format.end_token_ids)
        guard = Guard.against(
            turns[first:-1],
            message=turns[-1].content,
            previous=turns[-2].content if len(turns) > 1 else "",
            empty=settings.guards_empty(config),
            echo=settings.guards_echo(config),
            reply_filter=settings.reply_filter,
        )
        return Task(
            prompt=prompt,
            context=turns[first:],
            config=config,
            seed=seed,
            guard=guard,
            num_candidates=settings.num_candidates if config.do_sample else 1,
            max_retries=settings.max_retries,
            ranking=self._ranking,
            fallback=settings.fallback,
        )

    def _commit(
        self, turns: list[Turn], exchange: Exchange, prompt: list[int], recomputed: int, answer: Answer, reason: str
    ) -> Reply:
        """The answer becomes a turn."""
        base = len(turns) - 1
        before = self._exchanges[base // 2 - 1].first_visible if base else 0
        self._turns[:] = [*turns, Turn("assistant", answer.text, answer.token_ids)]
        self._exchanges[base // 2 :] = [exchange]
        self._sequence = answer.sequence
        history = self._format.encode(self._turns[exchange.first_visible :])
        self._unread = len(history) - _common(history, self._sequence.tokens)
        usage = Usage(
            prompt_tokens=len(prompt),
            cached_tokens=answer.cached_tokens,
            completion_tokens=answer.completion_tokens,
            recomputed_tokens=recomputed + self._recomputed,
            prepared_tokens=self._prepared,
            generated_tokens=answer.generated_tokens,
        )
        self._prepared = self._recomputed = 0
        return Reply(
            text=answer.text,
            token_ids=answer.token_ids,
            finish_reason=reason,
            seed=answer.seed,
            usage=usage,
            timings=answer.timings,
            logprobs=answer.logprobs,
            dropped_turns=max(0, exchange.first_visible - before),
            retries=answer.retries,
            candidates=tuple(answer.candidates),
        )

    def _claimed(self) -> Claim:
        return Claim(self)


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """Length of what two sequences begin with alike."""
    return next((i for i, (left, right) in enumerate(zip(a, b, strict=False)) if left != right), min(len(a), len(b)))


def _settings(
    config: GenerationConfig | None, preset: str | None, arguments: dict[str, Any]
) -> tuple[ChatSettings, GenerationConfig]:
    """A session's two kinds of arguments, told apart; TypeError names the nearest known one for an unknown one."""
    if config is not None and preset is not None:
        raise TypeError("A session takes a preset or a generation_config, but both are given; leave one out.")
    mine: dict[str, Any] = {}
    if preset is not None:
        row = preset_named(preset)
        config, mine = row.generation_config, {"num_candidates": row.num_candidates}
    mine |= {name: value for name, value in arguments.items() if name in SETTINGS}
    generation = {name: value for name, value in arguments.items() if name not in SETTINGS}
    for name in generation.keys() - ARGUMENTS:
        near = difflib.get_close_matches(name, SETTINGS | ARGUMENTS, n=1)
        if near and near[0] in SETTINGS:
            raise TypeError(f"There is no argument {name!r}; did you mean {near[0]!r}?")
    return ChatSettings(**mine), override(CHAT if config is None else config, generation)
