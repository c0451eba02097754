"""Does a process that chats for hours stay whole? Threads do all that sessions can, at random, with a fixed seed.

    python bench/soak.py --minutes 30

Prints memory, threads and files every minute. Exits with an error if anything went wrong, a reply differed from its
twin's, or at the end memory, threads, files or cache pages have not come back.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

from dialocpp import ChatSession, Model

LINES = ["Hello, how are you?", "What do you like to eat?", "Does money buy happiness?", "Tell me a joke.", "I see."]
SESSIONS = 4  # of each thread
TURNS = 24  # after which a conversation is dropped


class Actor:
    """One thread's sessions, and what it does to them."""

    def __init__(self, model: Model, seed: int, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.rng = random.Random(seed)
        self.chats = [self.new_chat() for _ in range(SESSIONS)]
        self.done: Counter[str] = Counter()

    def new_chat(self) -> ChatSession:
        return ChatSession(self.model, seed=self.rng.randrange(2**32), max_new_tokens=self.rng.choice([8, 20, 40]))

    def act(self) -> None:
        name = self.rng.choice(ACTIONS)
        index = self.rng.randrange(SESSIONS)
        if len(self.chats[index].history) > TURNS:
            self.chats[index] = self.new_chat()
        chat = self.chats[index]
        if not chat.history:
            chat.reply(self.line())
        replacement = getattr(self, name)(chat)
        if replacement is not None:
            self.chats[index] = replacement
        roles = [turn["role"] for turn in self.chats[index].history]
        expect(roles == ["user", "assistant"] * (len(roles) // 2), f"turns that alternate, found {roles}")
        self.done[name] += 1

    def line(self) -> str:
        return self.rng.choice(LINES)

    def reply(self, chat: ChatSession) -> None:
        chat.reply(self.line())

    def stream_and_leave(self, chat: ChatSession) -> None:
        """Close at a random piece, often before the first."""
        with chat.stream(self.line()) as stream:
            for _ in range(self.rng.randrange(6)):
                next(stream, None)

    def forget_a_stream(self, chat: ChatSession) -> None:
        next(chat.stream(self.line()), None)

    def close_from_another_thread(self, chat: ChatSession) -> None:
        stream = chat.stream(self.line() + " word" * self.rng.randrange(200), max_new_tokens=8)
        closer = threading.Thread(target=stream.close)
        closer.start()
        shown = "".join(stream)
        closer.join()
        expect(not shown or shown == chat.history[-1]["content"], "the reply that was shown in the history")

    def fork(self, chat: ChatSession) -> ChatSession:
        """Twins say the same."""
        twin, line = chat.fork(), self.line()
        expect(twin.reply(line).token_ids == chat.reply(line).token_ids, "the same reply from a fork")
        return twin

    def undo(self, chat: ChatSession) -> None:
        chat.undo()

    def regenerate(self, chat: ChatSession) -> None:
        seed = self.rng.randrange(2**32)
        first = chat.regenerate(seed=seed).token_ids
        expect(chat.regenerate(seed=seed).token_ids == first, "the same reply for the same seed")

    def save_and_load(self, chat: ChatSession) -> ChatSession:
        path = self.folder / f"{threading.get_ident()}.json"
        chat.save(path)
        loaded, line = ChatSession.load(path, self.model), self.line()
        expect(loaded.reply(line).token_ids == chat.reply(line).token_ids, "the same reply from a loaded conversation")
        return loaded

    def reset(self, chat: ChatSession) -> None:
        chat.reset()

    def refuse_a_second_caller(self, chat: ChatSession) -> None:
        with chat.stream(self.line()):
            try:
                chat.reply("me too")
            except RuntimeError:
                return
        raise AssertionError("expected an error for a second caller, found none")

    def batch(self, _: ChatSession) -> None:
        prompts = [self.line() * self.rng.randrange(1, 5) for _ in range(self.rng.randrange(1, 6))]
        made = self.model.generate(prompts, max_new_tokens=12, do_sample=True, seed=7)
        alone = self.model.generate(prompts[0], max_new_tokens=12, do_sample=True, seed=7)
        expect(alone[0].token_ids == made[0].token_ids, "the same text alone and in a batch")

    def read(self, chat: ChatSession) -> None:
        ids = self.model.tokenizer.encode(chat.history[0]["content"] * 3)
        expect(self.model.logits(ids).shape[0] == len(ids), "logits for each token")
        self.model.score([self.line()], "Yes, I do.")

    def side_by_side(self, _: ChatSession) -> None:
        """Streams on one event loop, some of them cancelled."""
        asyncio.run(self.streams([self.new_chat() for _ in range(self.rng.randrange(2, 9))]))

    async def streams(self, chats: list[ChatSession]) -> None:
        async def listen(chat: ChatSession, line: str) -> str:
            return "".join([piece async for piece in chat.astream(line)])

        tasks = [asyncio.create_task(listen(chat, self.line())) for chat in chats]
        for task in tasks[::3]:
            for _ in range(self.rng.randrange(200)):
                await asyncio.sleep(0)
            task.cancel()
        for chat, text in zip(chats, await asyncio.gather(*tasks, return_exceptions=True), strict=True):
            if isinstance(text, str):
                expect(chat.history[-1]["content"] == text, "the streamed reply in the history")
            elif not isinstance(text, asyncio.CancelledError):
                raise text


ACTIONS = [
    *["reply"] * 4,
    *["stream_and_leave", "forget_a_stream", "close_from_another_thread", "refuse_a_second_caller"],
    *["fork", "undo", "regenerate", "save_and_load", "reset", "batch", "read", "side_by_side"],
]


def expect(fine: bool, what: str) -> None:
    if not fine:
        raise AssertionError(f"expected {what}")


class State:
    """What must not grow: MiB of memory, threads, open files."""

    def __init__(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.rss = pages * os.sysconf("SC_PAGE_SIZE") / 2**20
        self.threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 (the names alone)
        self.files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    def __str__(self) -> str:
        return f"RSS {self.rss:.1f} MiB, {self.threads} threads, {self.files} files"


class Soak:
    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.model = Model.from_pretrained(options.model, num_threads=options.num_threads)
        self.model.generate("Hello", max_new_tokens=2)
        self.errors: list[str] = []
        self.enough = threading.Event()

    def serve(self, actor: Actor) -> None:
        while not self.enough.is_set():
            while self.options.pause_while is not None and self.options.pause_while.exists():
                time.sleep(1)
            try:
                actor.act()
            except BaseException:
                self.errors.append(traceback.format_exc())
                self.enough.set()

    def run(self) -> list[str]:
        """What went wrong."""
        with tempfile.TemporaryDirectory() as folder:
            before = State()
            actors = [Actor(self.model, self.options.seed + i, Path(folder)) for i in range(self.options.callers)]
            threads = [threading.Thread(target=self.serve, args=(actor,)) for actor in actors]
            for thread in threads:
                thread.start()
            warm, last = self.watch(actors)
            for thread in threads:
                thread.join()
        print(", ".join(f"{name} {sum(actor.done[name] for actor in actors)}" for name in sorted(set(ACTIONS))))
        actors.clear()
        gc.collect()
        after = State()
        print(f"all dropped: {after}, {self.model.kv_bytes_in_use} bytes of keys and values", flush=True)
        checks: list[tuple[bool, str]] = [
            (self.model.kv_bytes_in_use == 0, f"no page in use, found {self.model.kv_bytes_in_use} bytes"),
            (after.threads <= before.threads, f"{before.threads} threads, found {after.threads}"),
            (after.files <= before.files, f"{before.files} open files, found {after.files}"),
            (
                last - warm <= self.options.max_growth,
                f"at most {self.options.max_growth:g} MiB of growth after the warm-up, found {last - warm:.1f}",
            ),
        ]
        return self.errors + [f"expected {what}" for fine, what in checks if not fine]

    def watch(self, actors: list[Actor]) -> tuple[float, float]:
        """MiB of memory after the warm-up, a fifth of the time, and at the end: the highest of some moments each."""
        seconds = self.options.minutes * 60
        begin, said = time.monotonic(), 0.0
        samples: list[tuple[float, float]] = []
        while (now := time.monotonic() - begin) < seconds and not self.enough.wait(min(1.0, seconds - now)):
            state = State()
            samples.append((now, state.rss))
            if now - said >= 60:
                said = now
                count = sum(actor.done.total() for actor in actors)
                print(f"{now / 60:.0f} min: {count} actions, {state}", flush=True)
        self.enough.set()
        tenth = seconds / 10
        return (
            max([rss for at, rss in samples if tenth <= at < 2 * tenth], default=0.0),
            max([rss for at, rss in samples if at >= 9 * tenth], default=0.0),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or Hub id; the bundled model if left out")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--callers", type=int, default=4, help="threads that talk")
    parser.add_argument("--num-threads", type=int, help="of the model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-growth", type=float, default=24.0, help="MiB of memory after the warm-up")
    parser.add_argument("--pause-while", type=Path, metavar="FILE", help="rest while FILE exists")
    wrong = Soak(parser.parse_args()).run()
    print("\n".join(wrong) or "no error")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
