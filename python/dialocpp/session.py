"""How does one hold a conversation? Turns are owned here; positions and the cache are the core's."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from . import transcript
from .after_fork import forget_after_fork
from .chat_format import Role, Turn, check_message, first_visible, turn_ids
from .decoding import ARGUMENTS, CHAT, GenerationConfig, derived_seed, fresh_seed, override
from .in_background import in_background
from .model import Model
from .reply import Reply, timings_of, usage_of


class ChatSession:
    """A conversation with a model. Sessions are cheap and share their model; each is for one caller at a time.

    `generation` are GenerationConfig's arguments for every reply; each call can override them. The default samples
    (top-k, top-p, no repeated 3-gram); `do_sample=False` is plain greedy decoding. With a `seed` the whole conversation
    can be repeated. ValueError for a model that ranks replies and cannot write one.
    """

    def __init__(
        self,
        model: Model,
        generation_config: GenerationConfig = CHAT,
        *,
        seed: int | None = None,
        **generation: Any,
    ) -> None:
        model.check_writes()
        self.model = model
        self.generation_config = override(generation_config, generation)
        GenerationConfig(seed=seed)  # TypeError or ValueError for what is no seed
        self.seed = fresh_seed() if seed is None else seed
        self._turns: list[Turn] = []
        self._first = 0  # of the turns that the model still sees
        self._attempts = 0  # regenerations of the turn at hand
        self._sequence = model.new_sequence()
        self._busy = threading.Lock()
        forget_after_fork(self)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str] | None = None, *, seed: int | None = None, **arguments: Any
    ) -> ChatSession:
        """Load a model and talk to it: Model.from_pretrained's arguments, and generation arguments."""
        generation = {name: arguments.pop(name) for name in ARGUMENTS & arguments.keys()}
        override(CHAT, generation)  # a bad one is worth an error before the model is loaded
        return cls(Model.from_pretrained(name_or_path, **arguments), seed=seed, **generation)

    @property
    def history(self) -> list[dict[str, str]]:
        """All turns, oldest first, as `{"role": "user" | "assistant", "content": text}`; a copy."""
        return [{"role": turn.role, "content": turn.content} for turn in self._turns]

    def reply(self, message: str, **generation: Any) -> Reply:
        """Say something and wait for the whole answer. Ctrl-C stops it and keeps what was already said."""
        with self.stream(message, **generation) as stream:
            for _ in stream:
                pass
            return stream.reply

    def stream(self, message: str, **generation: Any) -> ReplyStream:
        """Say something and read the answer piece by piece, in whole characters.

        Leaving the loop early stops the reply; what was shown stays in the history. ValueError, TypeError or
        CapacityError come from this call, before anything has changed. A CapacityError can also come in mid-reply, when
        other conversations have filled the cache: it takes the whole exchange back, and the same call gives the same
        reply once there is room.
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
            while (piece := await in_background(lambda: next(stream, None), stream._stop)) is not None:
                yield piece
        finally:
            if started:
                await in_background(started[0].close)

    def undo(self) -> str:
        """Take back the last exchange; returns the message that began it. ValueError if there is none."""
        with self._claimed():
            base = self._last_exchange()
            message = self._turns[base].content
            del self._turns[base:]
            self._after_removal()
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
            twin = ChatSession(self.model, self.generation_config, seed=self.seed)
            twin._turns = list(self._turns)
            twin._first = self._first
            twin._attempts = self._attempts
            twin._sequence = self._sequence.fork()
            return twin

    def reset(self) -> None:
        """Forget all turns and free the cache."""
        with self._claimed():
            self._turns.clear()
            self._first = self._attempts = 0
            self._sequence = self.model.new_sequence()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the conversation to a JSON file, whole or not at all."""
        transcript.write(
            Path(path),
            transcript.Transcript(
                model=self.model.name,
                fingerprint=self.model.fingerprint,
                seed=self.seed,
                attempts=self._attempts,
                first_visible=self._first,
                generation_config=self.generation_config,
                turns=tuple(self._turns),
            ),
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: Model) -> ChatSession:
        """Go on with a saved conversation. With another model than it was held with, its texts are encoded anew.

        ValueError if the file is not a saved conversation.
        """
        saved = transcript.read(Path(path))
        chat = cls(model, saved.generation_config, seed=saved.seed)
        chat._attempts = saved.attempts
        if saved.fingerprint == model.fingerprint:
            ids = [id_ for turn in saved.turns for id_ in turn.token_ids]
            if ids and max(ids) >= model.config.vocab_size:
                raise ValueError(f"{path} is a damaged conversation: the model has no token {max(ids)}.")
            chat._turns = list(saved.turns)
            chat._first = saved.first_visible
        else:
            chat._turns = [chat._turn(turn.role, turn.content) for turn in saved.turns]
        return chat

    def _turn(self, role: Role, text: str) -> Turn:
        return Turn(role, text, tuple(self.model.tokenizer.encode(text)))

    def _last_exchange(self) -> int:
        if not self._turns:
            raise ValueError("There is no turn yet; say something first.")
        return len(self._turns) - 2

    def _after_removal(self) -> None:
        self._attempts = 0
        if self._first >= len(self._turns):
            self._first = 0  # what was seen is gone: older turns may come back into the window

    def _start(self, arguments: dict[str, Any], message: str = "", *, again: bool = False) -> ReplyStream:
        """The answer to a message, or `again` to the last one."""
        claim = self._claimed()
        try:
            base = self._last_exchange() if again else len(self._turns)
            attempt = self._attempts + 1 if again else 0
            text = self._turns[base].content if again else message
            config = override(self.generation_config, arguments)
            turns = [*self._turns[:base], self._turn("user", check_message(text))]
            before = self._first if self._first <= base else 0
            first = first_visible(turns, before, self.model.config.n_positions, config.max_new_tokens)
            seed = derived_seed(self.seed, base, attempt) if config.seed is None else config.seed
            dropped = max(0, first - before)
            return ReplyStream(self, claim, config, turns, first, seed, attempt, dropped)
        except BaseException:
            claim.release()
            raise

    def forget(self) -> None:
        """In a child after fork(): a reply that was being written is the parent's, and the session is free."""
        self._busy = threading.Lock()

    def _claimed(self) -> _Claim:
        return _Claim(self)


class _Claim:
    """Holds a session for one caller; a second caller gets an error instead of a broken history."""

    def __init__(self, session: ChatSession) -> None:
        self._session = session
        self._lock = session._busy
        self._held = False
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                "This session is in the middle of a reply; finish or close that stream first, "
                "or fork() the session for a second conversation."
            )
        self._held = True

    @property
    def held(self) -> bool:
        """Until it is released. RuntimeError in a child after fork()."""
        if self._held and self._session._busy is not self._lock:
            raise RuntimeError("The parent process goes on with this reply; call reply or stream again for another.")
        return self._held

    def release(self) -> None:
        if self._held:
            self._held = False
            self._lock.release()

    def __enter__(self) -> _Claim:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


class ReplyStream:
    """An answer in the making: an iterator over its pieces; `reply` tells the rest once it has ended."""

    def __init__(
        self,
        session: ChatSession,
        claim: _Claim,
        config: GenerationConfig,
        turns: list[Turn],
        first: int,
        seed: int,
        attempt: int,
        dropped: int,
    ) -> None:
        self._claim = claim  # released when the answer ends
        self._reply: Reply | None = None
        self._session = session
        self._turns = turns
        self._first = first
        self._seed = seed
        self._attempt = attempt
        self._dropped = dropped
        self._text = session.model.tokenizer.stream(skip_special_tokens=True)
        self._pieces: list[str] = []
        self._using = threading.RLock()  # reentrant: the collector may strike anywhere
        self._shown = 0  # tokens whose text has been shown whole
        self._pushed = 0
        prompt = turn_ids(turns[first:], session.model.tokenizer.eos_token_id)
        self._request = session.model.request(
            session._sequence, prompt, config, seed=seed, penalty_start=len(prompt)
        )
        session.model.scheduler.submit(self._request)

    @property
    def reply(self) -> Reply:
        """The finished reply; RuntimeError while it is still being written or when nothing came of it."""
        if self._reply is None:
            raise RuntimeError("There is no reply yet; iterate to the end of the stream first.")
        return self._reply

    def __iter__(self) -> ReplyStream:
        return self

    def __next__(self) -> str:
        if not self._claim.held:
            raise StopIteration
        with self._using:
            try:
                piece = self._next_piece() if self._claim.held else None
            except Exception:
                self._take_back()
                raise
            except BaseException:
                self.close()
                raise
            if piece is None:
                if self._claim.held:
                    self._finish(self._request.finish_reason or "cancelled")
                raise StopIteration
            return piece

    def close(self) -> None:
        """Stop. What was shown becomes a turn that ended as `cancelled`; if nothing was shown, nothing was said.

        Safe from any thread: one that waits for a piece gets the end of the stream, after the current step.
        """
        if not self._claim.held:
            return
        self._stop()
        with self._using:
            if self._claim.held:
                self._finish("cancelled")

    def _stop(self) -> None:
        """Ask for the end, and return at once."""
        self._request.cancelled = True

    def _take_back(self) -> None:
        """After an error: as if nothing had been said."""
        self._session.model.scheduler.cancel(self._request)
        self._claim.release()

    def __enter__(self) -> ReplyStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_request"):
            with suppress(RuntimeError):  # the parent's, after fork()
                self.close()

    def _next_piece(self) -> str | None:
        while True:
            token = self._session.model.scheduler.next_token(self._request)
            if token is None and self._request.finish_reason is None:
                return None  # cancelled
            if token is None or token in self._request.eos_token_ids:
                rest = self._text.flush()
                self._shown = self._pushed
                if rest:
                    self._pieces.append(rest)
                return rest or None
            piece = self._text.push(token)
            self._pushed += 1
            if piece:
                self._pieces.append(piece)
                self._shown = self._pushed
                return piece

    def _finish(self, reason: str) -> None:
        session, request = self._session, self._request
        session.model.scheduler.cancel(request)
        try:
            ids = request.reply_ids[: self._shown] if reason == "cancelled" else request.reply_ids
            if reason == "cancelled" and not self._pieces:
                return
            text = "".join(self._pieces)
            session._turns[:] = [*self._turns, Turn("assistant", text, tuple(ids))]
            session._first = self._first
            session._attempts = self._attempt
            self._reply = Reply(
                text=text,
                token_ids=tuple(ids),
                finish_reason=reason,
                seed=self._seed,
                usage=usage_of(request),
                timings=timings_of(request),
                dropped_turns=self._dropped,
            )
        finally:
            self._claim.release()
