"""How does one hold a conversation? Turns are owned here; positions and the cache are the core's."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

from dialocpp.chat import transcript
from dialocpp.decoding.generation_config import ARGUMENTS, GenerationConfig, override
from dialocpp.decoding.other_names import INSTEAD
from dialocpp.decoding.seeds import checked_seed, derived_seed, fresh_seed
from dialocpp.errors import brief
from dialocpp.model import Model
from dialocpp.prompt.formats import resolve_format
from dialocpp.prompt.turns import Role, Turn, check_message
from dialocpp.prompt.window import Window

from .async_reply_stream import AsyncReplyStream
from .claim import Claim, Occupancy
from .config import CHAT_ARGUMENTS, ChatConfig, split_arguments
from .history import Draft, History
from .presets import BY_REVERSE, preset_named
from .rankers import MMI
from .ranking import RankerArgument, Ranking
from .reply import CANCELLED, Reply
from .reply_spec import ReplySpec
from .reply_stream import ReplyStream
from .reply_task import ReplyTask


class ChatSession:
    """A conversation with a model. Sessions are cheap and share their model; each is for one caller at a time.

    `preset`: a name of PRESETS, or else `generation_config`. `arguments` are GenerationConfig's, for every reply (each
    call can override them), and ChatConfig's: `num_candidates, max_retries, echo_guard, reply_filter, fallback,
    window_tokens, persona, chat_format`. `rankers` choose among candidates: objects with `name` and `score`,
    functions of (context, reply), or a list of these and of pairs (ranker, weight); then there are 16 candidates,
    unless `num_candidates` says otherwise. `reverse`: a reverse model to rank by, as the preset `paper-mmi` unless
    another is named. `max_time` holds for the whole reply: the best of as many candidates as fit.

    Of the model's generation_config.json what names tokens holds here too, unless a `generation_config` is given.

    The default samples (top-k, top-p, no repeated 3-gram) and does not give a reply that is empty or was said before.
    `do_sample=False` is plain greedy decoding, which nothing alters unless it is asked for by name. With a `seed` the
    whole conversation can be repeated. `history`: what was said elsewhere, as the property of that name tells it;
    several messages in a row and a bot that begins are fine. ValueError for a model that ranks and cannot write.
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
        history: Sequence[Mapping[str, str]] = (),
        **arguments: Any,
    ) -> None:
        model.runtime.check_writes()
        given = Ranking.of(rankers)
        # A reverse model asks for the paper's rules, unless others are named.
        is_unnamed = generation_config is None and preset is None
        rules = BY_REVERSE if reverse is not None and is_unnamed else preset
        settings, config = split_arguments(generation_config, rules, arguments)
        if generation_config is None:  # which tokens may come is the model's affair, how they are drawn the session's
            theirs = model.generation_defaults.token_rules
            config = dataclasses.replace(config, **{k: rule for k, rule in theirs.items() if k not in arguments})
        self.generation_config = config
        self._ranking = given if reverse is None else given.also(MMI(reverse))
        if self._ranking and "num_candidates" not in arguments and settings.num_candidates == 1:
            settings = dataclasses.replace(settings, num_candidates=preset_named(BY_REVERSE).num_candidates)
        if (count := self.generation_config.num_return_sequences) > 1:
            raise ValueError(
                f"expected num_return_sequences to be 1, for a session gives one reply, found {count}; "
                "to choose among several, give num_candidates"
            )
        # What a file cannot hold, by the argument's name.
        self._functions = [name for name, there in (("rankers", given), ("reverse", reverse)) if there]
        if preset is not None and preset_named(preset).needs_reverse and not self._ranking:
            raise ValueError(f"expected a reverse model for the preset {preset!r}, found none; give one as reverse=")
        self.model = model
        self.preset = preset
        self.settings = settings
        self.seed = fresh_seed() if seed is None else checked_seed(seed)
        self._format = resolve_format(
            settings.chat_format, model.tokenizer, model.tokenizer_folder, model.name, settings.persona
        )
        # Whatever one of a model's files calls the end of a reply is one: they often disagree.
        ends = (*model.eos_token_ids, *model.tokenizer.end_token_ids, *self._format.end_token_ids)
        self._ends = tuple(dict.fromkeys(ends))
        self._history = History(self._format, model.n_positions, settings.max_turns)
        self._window(self.generation_config)  # CapacityError for a persona that leaves no room
        self._occupancy = Occupancy()
        self._sequence = model.runtime.new_sequence()
        self._history.extend([self._turn(*message) for message in _messages(history)])

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str] | None = None, *, seed: int | None = None, **arguments: Any
    ) -> ChatSession:
        """Load a model and talk to it: Model.from_pretrained's arguments, and a ChatSession's."""
        own = {"generation_config", "preset", "rankers", "reverse", "history", *ARGUMENTS, *CHAT_ARGUMENTS}
        own |= INSTEAD.keys() - inspect.signature(Model.from_pretrained).parameters.keys()
        mine = {name: arguments.pop(name) for name in own & arguments.keys()}
        plain = {name: value for name, value in mine.items() if name not in ("rankers", "reverse", "history")}
        # A bad argument is worth an error before the model is loaded.
        split_arguments(plain.pop("generation_config", None), plain.pop("preset", None), plain)
        return cls(Model.from_pretrained(name_or_path, **arguments), seed=seed, **mine)

    @property
    def history(self) -> list[dict[str, str]]:
        """All turns, oldest first, as `{"role": "user" | "assistant", "content": text}`; a copy."""
        return [{"role": turn.role, "content": turn.content} for turn in self._history.turns]

    @property
    def pinned_tokens(self) -> int:
        """Tokens of the persona and of what else stands before the first turn: they never leave the window."""
        return self._history.pinned

    @property
    def chat_format(self) -> str:
        """The name of the format that lays out the turns."""
        return self._format.name

    def reply(self, message: str, **generation: Any) -> Reply:
        """Say something and wait for the whole reply. Ctrl-C stops it and keeps what was already said."""
        with self.stream(message, **generation) as stream:
            for _ in stream:
                pass
            return stream.reply

    def stream(self, message: str, **generation: Any) -> ReplyStream:
        """Say something and read the reply piece by piece, in whole characters.

        Text is held back as long as it may still become a repetition; with several candidates or a filter, all of it
        comes once it is chosen. Leaving the loop early stops the reply; what was shown stays in the history.
        ValueError, TypeError or CapacityError come from this call, before anything has changed. A CapacityError can
        also come in mid-reply, when other conversations have filled the cache: it takes the whole exchange back, and
        the same call gives the same reply once there is room.
        """
        return self._start(generation, message)

    async def areply(self, message: str, **generation: Any) -> Reply:
        """`reply` for asyncio: the event loop runs on. Cancelling the task stops it and keeps what was already said."""
        return await self.astream(message, **generation).read()

    def astream(self, message: str, **generation: Any) -> AsyncReplyStream:
        """`stream` for asyncio: the event loop runs on while the model computes. It begins when it is first read.

        Leaving the loop in any way stops the reply, what was shown stays, and the next message may follow at once. A
        task that is cancelled while it waits for a piece leaves within one step, a long prompt's included.
        """
        config = override(self.generation_config, generation)
        return AsyncReplyStream(
            self.model.runtime.driver,
            partial(self._occupancy.aclaim, **self._patience(config)),
            partial(self._begin, config, message, False),
        )

    def cancel(self) -> bool:
        """Stop the reply that is being written, from any thread or task; False if there is none. Returns at once.

        Whoever reads it comes to its end after the current step, and what was shown stays in the history.
        """
        holder = self._occupancy.holder
        if holder is None:
            return False
        holder.cancel()
        return True

    def prepare(self) -> int:
        """Read now what the next message will follow on; returns how many tokens that were.

        For idle time, such as while the user types: after turns have left the window, the rest must be read again. It
        changes no reply, only when its time is spent. CapacityError if the cache is full.
        """
        with self._claim():
            ids = self._history.upcoming(self._window(self.generation_config))
            if not ids or self._sequence.tokens[: len(ids)] == ids:
                return 0
            runtime = self.model.runtime
            request = runtime.request(
                self._sequence, ids, GenerationConfig(max_new_tokens=1), seed=0, penalty_start=len(ids)
            )
            with runtime.running([request]) as scheduler:
                scheduler.next_token(request)
            fresh = len(ids) - request.cached_tokens
            self._history.note_prepared(fresh)
            return fresh

    def append(self, role: Role, text: str) -> None:
        """Note a turn that was said elsewhere, by the `user` or the `assistant`; nothing is read yet.

        To a message that has no reply, regenerate() gives one. ValueError or TypeError for what is no turn.
        """
        (message,) = _messages([{"role": role, "content": text}])
        with self._claim():
            self._history.extend([self._turn(*message)])

    def undo(self) -> str:
        """Take back the last message and its reply; returns the message. ValueError if there is none.

        Nothing is read again: the cache still holds what came before it.
        """
        with self._claim():
            return self._history.undo()

    def regenerate(self, **generation: Any) -> Reply:
        """Another reply to the last message, with other random numbers. ValueError if there is none."""
        with self.regenerate_stream(**generation) as stream:
            for _ in stream:
                pass
            return stream.reply

    def regenerate_stream(self, **generation: Any) -> ReplyStream:
        """`regenerate`, piece by piece; the old reply stays until the new one has begun to be shown."""
        return self._start(generation, again=True)

    def fork(self) -> ChatSession:
        """A second conversation with the same past. The cache is shared until one of the two goes on."""
        with self._claim():
            twin = object.__new__(type(self))
            twin.__dict__.update(self.__dict__)
            twin._occupancy = Occupancy()
            twin._history = self._history.fork()
            twin._sequence = self._sequence.fork()
            return twin

    def __copy__(self) -> ChatSession:
        return self.fork()

    def __deepcopy__(self, memo: dict[int, Any]) -> ChatSession:
        return self.fork()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "expected something that can be pickled, found a ChatSession; save() it to a file and load() that in the "
            "other process, with a Model loaded there"
        )

    def reset(self) -> None:
        """Begin a new conversation: no turn is left, and the cache is free."""
        with self._claim():
            self._history.clear()
            self._sequence = self.model.runtime.new_sequence()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation to a JSON file, whole or not at all. Functions and rankers are named, not written."""
        said, config = self._history.state, self.generation_config
        functions = (*self.settings.functions(), *self._functions)
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
                exchanges=said.exchanges,
                turns=said.turns,
            ),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Model, **functions: Any) -> ChatSession:
        """Go on with a saved conversation. With another model than it was held with, its texts are encoded again.

        `functions`: `reply_filter, chat_format, rankers, reverse`, for a session that had them. ValueError if the
        file is not a saved conversation, or lacks a function that it was held with.
        """
        saved = transcript.read(Path(path))
        missing = [name for name in saved.functions if name not in functions]
        if missing:
            raise ValueError(
                f"{path}: expected the {missing[0]} that it was held with, found none, for a file cannot hold it; "
                f"give {missing[0]}= to load()"
            )
        if unknown := saved.settings.keys() - set(CHAT_ARGUMENTS):
            raise transcript.damaged(Path(path), f"the unknown setting {min(unknown)!r}")
        try:
            ChatConfig(**saved.settings)
        except (TypeError, ValueError) as error:
            raise transcript.damaged(Path(path), str(error).split(";")[0]) from None
        chat = cls(model, saved.generation_config, seed=saved.seed, **(saved.settings | functions))
        chat.preset = saved.preset
        if saved.fingerprint == model.fingerprint:
            highest = max((id_ for turn in saved.turns for id_ in turn.token_ids), default=0)
            if highest >= model.vocab_size:
                raise transcript.damaged(Path(path), f"the token {highest}, which the model does not have")
            transcript.check_ids(Path(path), saved, model.tokenizer)
            chat._history.restore(saved.turns, saved.exchanges)
        else:
            turns = [chat._turn(turn.role, turn.content) for turn in saved.turns]
            exchanges = [dataclasses.replace(exchange, first_visible=0) for exchange in saved.exchanges]
            chat._history.restore(turns, exchanges)
        return chat

    def _turn(self, role: Role, text: str) -> Turn:
        return Turn(role, text, tuple(self.model.tokenizer.encode(text)))

    def _window(self, config: GenerationConfig) -> Window:
        tokens = self.settings.history_tokens(config, self.model.n_positions)
        return self._history.window(tokens, config.max_new_tokens)

    def _start(self, arguments: dict[str, Any], message: str = "", *, again: bool = False) -> ReplyStream:
        """The reply to a message, or `again` to the last one."""
        config = override(self.generation_config, arguments)
        claim = self._claim(config)
        try:
            return self._begin(config, message, again, claim)
        except BaseException:
            claim.release()
            raise

    def _begin(self, config: GenerationConfig, message: str, again: bool, claim: Claim) -> ReplyStream:
        turn = self._turn("user", check_message(self._history.last_message() if again else message))
        draft = self._history.draft(turn, self._window(config), again=again)
        spec = ReplySpec.of(
            draft,
            config,
            self.settings,
            seed=self._seed_of(draft) if config.seed is None else config.seed,
            ranking=self._ranking,
            end_token_ids=self._ends,
            nameless_ids=self.model.tokenizer.nameless_ids,
        )
        task = ReplyTask(self.model.runtime, self._sequence, spec, started=claim.since)
        return ReplyStream(claim, task, self._commit)

    def _claim(self, config: GenerationConfig | None = None) -> Claim:
        return self._occupancy.claim(**self._patience(config or self.generation_config))

    def _patience(self, config: GenerationConfig) -> dict[str, Any]:
        """How long a caller waits for its turn."""
        return {"wait": self.settings.on_busy == "wait", "seconds": config.max_time}

    def _seed_of(self, draft: Draft) -> int:
        """Each turn has its own random numbers, and so has each further reply to one message."""
        return derived_seed(self.seed, draft.number, draft.exchange.attempt)

    def _commit(self, task: ReplyTask, reason: str) -> Reply:
        """The reply becomes a turn: before the last line nothing has been said, after it both turns have."""
        reply = task.reply(reason)
        read = task.surely_read if reason == CANCELLED else task.sequence.tokens
        self._sequence = task.sequence
        self._history.commit(task.spec.draft, Turn("assistant", reply.text, reply.token_ids), read)
        return reply


def _messages(history: Sequence[Mapping[str, str]]) -> Iterator[tuple[Role, str]]:
    """Roles and texts. ValueError or TypeError for what is no conversation."""
    for number, message in enumerate(history):
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            raise TypeError(
                f"expected turns of a history to be {{'role': …, 'content': …}}, found {brief(message)} as number "
                f"{number}; convert it first"
            )
        role = message["role"]
        if role not in ("user", "assistant"):
            raise ValueError(
                f"expected the role user or assistant, found {brief(role)} in turn {number}; for what the bot is, "
                "give persona="
            )
        yield cast(Role, role), check_message(message["content"])
