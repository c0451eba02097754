"""Does a process end as it would without dialocpp, whatever its daemon threads do in the core at that moment?"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from held_engine import PATIENCE
from small_models import Gpt2, gpt2_config, random_gpt2

# `entered` is set by a thread that holds the GIL in front of a call which leaves it: whoever waits for it goes on when
# the thread is inside.
BEGIN = """
import signal, socketserver, sys, threading
from dialocpp import ChatSession, Model, _core

entered = threading.Event()

def announce(owner, name):
    call = getattr(owner, name)
    def announcing(*given, **named):
        entered.set()
        return call(*given, **named)
    setattr(owner, name, announcing)

def for_ever(work):
    def run():
        while True:
            work()
    threading.Thread(target=run, daemon=True).start()

model = Model.from_pretrained(num_threads=2)
LONG = "I would like to tell you a long story about my life. " * 12
IDS = model.tokenizer.encode(LONG)[:150]
FOLDER = sys.argv[1]
"""

CALLS = {
    "reply": "lambda: ChatSession(model, max_new_tokens=50).reply(LONG)",
    "stream": "lambda: list(ChatSession(model, max_new_tokens=50).stream(LONG))",
    "prepare": "lambda: ChatSession(model, persona=LONG[:300]).prepare()",
    "candidates": "lambda: ChatSession(model, num_candidates=4, max_new_tokens=20).reply(LONG)",
    "generate": "lambda: model.generate([IDS, IDS[:40]], max_new_tokens=20)",
    "beams": "lambda: model.generate(IDS, num_beams=4, max_new_tokens=20)",
    "score": "lambda: model.score([LONG[:200]], 'Yes, I do.')",
    "logits": "lambda: model.logits(IDS)",
    "logprobs": "lambda: model.logprobs(IDS)",
    "loading": "lambda: Model.from_pretrained(num_threads=1).generate([1], max_new_tokens=1)",
    "packing": "lambda: Model.from_pretrained(FOLDER, dtype='float32', num_threads=1)",
    "quantising": "lambda: Model.from_pretrained(FOLDER, dtype='int8', num_threads=1)",
}
ANNOUNCED = {"logits": "_core.Engine, 'logits'", "logprobs": "_core.Engine, 'logprobs'"} | dict.fromkeys(
    ("packing", "quantising"), "_core, 'pack'"
)
STEP = "_core.Engine, 'step'"

ENDS = {
    "the main thread returns": ("", 0),
    "sys.exit(3)": ("sys.exit(3)", 3),
    "an exception": ("sys.excepthook = lambda *error: None\nraise KeyError", 1),
}


@pytest.fixture(scope="module")
def folder(save_folder: Callable[[Gpt2], Path]) -> Path:
    """Weights that are to be packed."""
    return save_folder(random_gpt2(gpt2_config(n_embd=160, n_head=2, n_layer=4), seed=3))


def check_end(program: str, status: int, folder: Path) -> None:
    """The program ends with the status and prints nothing."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr, done.stdout) == (status, "", "")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("call", CALLS)
def test_a_daemon_thread_is_inside_a_call(
    call: str, end: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIALOCPP_CACHE", str(tmp_path))  # so that nothing is packed yet
    last, status = ENDS[end]
    program = f"announce({ANNOUNCED.get(call, STEP)})\nfor_ever({CALLS[call]})\nentered.wait()\n{last}"
    check_end(program, status, folder)


def test_many_threads_at_once(folder: Path) -> None:
    busy = "\n".join(f"for_ever({work})" for work in CALLS.values())
    check_end(f"announce({STEP})\n{busy}\nentered.wait()\nsys.exit(3)", 3, folder)


def test_what_the_main_thread_leaves_behind_is_closed(folder: Path) -> None:
    """A stream that is closed while the interpreter ends takes locks that a daemon thread may have had."""
    program = """
stream = ChatSession(model, max_new_tokens=50).stream(LONG)
next(stream)
announce(_core.Engine, 'step')
for_ever(lambda: ChatSession(model, max_new_tokens=50).reply(LONG))
entered.wait()
sys.exit(3)
"""
    check_end(program, 3, folder)


def test_hooks_at_exit_may_use_the_model(folder: Path) -> None:
    """Also those that run after the package's own: they were registered before it was imported."""
    program = """
import atexit
def say_goodbye():
    with open(FOLDER + "/goodbye", "w") as file:
        file.write(str(len(model.generate(IDS, max_new_tokens=4, min_new_tokens=4)[0].token_ids)))
announce(_core.Engine, 'step')
for_ever(lambda: ChatSession(model, max_new_tokens=50).reply(LONG))
entered.wait()
"""
    first = "import atexit\natexit.register(lambda: say_goodbye())\n"
    done = subprocess.run(
        [sys.executable, "-c", first + BEGIN + program, str(folder)],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "goodbye").read_text() == "4"


def test_ctrl_c_on_a_threaded_server(folder: Path) -> None:
    """As socketserver's and Flask's development server: a daemon thread for each request."""
    program = """
import os, socket

class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        while True:
            ChatSession(model, max_new_tokens=50).reply(LONG)

class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background passes on that it ignores it
announce(_core.Engine, 'step')
server = Server(("127.0.0.1", 0), Handler)
client = socket.create_connection(server.server_address)

def press():
    entered.wait()
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=press, daemon=True).start()
try:
    server.serve_forever()
except KeyboardInterrupt:
    sys.exit(3)
"""
    check_end(program, 3, folder)


def test_a_step_that_waits_for_ever_does_not_hold_up_the_end(folder: Path) -> None:
    """A caller's own function may never return."""
    program = """
from dialocpp.engine import scheduler
scheduler._END_PATIENCE = 0.01
stream = ChatSession(model, max_new_tokens=50).stream(LONG)  # closed while the interpreter ends
next(stream)

def wait(ids, scores):
    entered.set()
    threading.Event().wait()

for_ever(lambda: model.generate(IDS, max_new_tokens=20, logits_processor=wait))
entered.wait()
sys.exit(3)
"""
    check_end(program, 3, folder)
