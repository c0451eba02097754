"""Does the command line do what its help says, in pipes too, and does a mistake cost one sentence only?"""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special
from click.testing import CliRunner, Result
from dialocpp import ChatSession, Model, _core
from dialocpp.checkpoint.files import weight_files
from dialocpp.checkpoint.packed.cache import cache_file
from dialocpp.cli import main
from dialocpp.evaluation.quantisation import compare
from small_models import Gpt2, gpt2_config, random_gpt2

COMMANDS = ["chat", "generate", "score", "quantize", "pull", "info", "eval"]


def run(*arguments: object, stdin: str = "") -> Result:
    """A command in this process."""
    return CliRunner().invoke(main, list(map(str, arguments)), input=stdin)


# A process that was started in the background ignores SIGINT; this one is as at a terminal.
_LAUNCH = """
import fcntl, os, runpy, signal, termios
signal.signal(signal.SIGINT, signal.default_int_handler)
if os.isatty(0):
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("dialocpp", run_name="__main__", alter_sys=True)
"""


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """A command in a process of its own, in which SIGINT is what Ctrl-C is at a terminal."""
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-c", _LAUNCH, *arguments], **(streams | options))


def one_sentence(result: Result) -> str:
    """The error of a failed command: one line, exit code 1, no traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(command: list[str]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Usage: " in result.stdout


def test_python_m() -> None:
    done = subprocess.run([sys.executable, "-m", "dialocpp", "--help"], capture_output=True, check=True)
    assert b"Usage: dialocpp" in done.stdout


def test_chat_through_a_pipe_prints_only_replies() -> None:
    lines = ["Hello, how are you?", "What do you do for fun?"]
    process = start("chat", "--seed", "5")
    out, err = process.communicate("\n".join(lines).encode(), timeout=60)
    session = ChatSession.from_pretrained(seed=5)
    assert out.decode().splitlines() == [session.reply(line).text for line in lines]
    assert b"demo" in err
    assert process.returncode == 0


def test_generation_options_reach_the_session() -> None:
    session = ChatSession.from_pretrained()
    expected = session.reply("Do you like music?", do_sample=False, max_new_tokens=5).text
    result = run("chat", "--greedy", "--max-new-tokens", 5, stdin="Do you like music?\n")
    assert result.stdout == expected + "\n"


BAD_MESSAGES = {
    "long": (b"so " * 40_000, b"shorten"),
    "control": (b"a\x00b", b"U+0000"),
    "no UTF-8": (b"a\xffb", b"expected text in UTF-8"),
    "unknown command": (b"/histroy", b"did you mean /history?"),
    "no such setting": (b"/set temprature=1", b"did you mean 'temperature'?"),
    "no setting": (b"/set", b"/set KEY=VALUE"),
    "no value": (b"/set top_k=many", b"found 'many'"),
    "bad value": (b"/set temperature=-1", b"temperature"),
    "nothing to take back": (b"/undo", b"no turn yet"),
    "nothing to say again": (b"/regen", b"no turn yet"),
    "too much": (b"/undo 3", b"'3'"),
    "no folder": (b"/save no/such/folder/file", b"no/such/folder/file"),
}


@pytest.mark.parametrize(("message", "expected"), BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_a_bad_line_costs_one_sentence_and_the_chat_goes_on(message: bytes, expected: bytes) -> None:
    process = start("chat", "--greedy", env={**os.environ, "PYTHONUTF8": "1"})
    out, err = process.communicate(message + b"\nHello\n/history\n", timeout=60)
    _, sentence = err.splitlines()  # the first is about the demo model
    assert expected in sentence
    reply, *history = out.decode().splitlines()
    assert history == ["you> Hello", f"bot> {reply}"]
    assert process.returncode == 0


def test_slash_commands(tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    lines = [
        "Hello",
        "/regen",
        "/stats",
        "Bye",
        "/undo",
        "/set max_new_tokens=3",
        f"/save {file}",
        "/help",
        "/exit",
        "?",
    ]
    result = run("chat", "--seed", 1, stdin="\n".join(lines))
    assert result.exit_code == 0
    session = ChatSession.from_pretrained(seed=1)
    first, second = session.reply("Hello").text, session.regenerate().text
    assert first != second
    assert result.stdout.splitlines()[:2] == [first, second]
    assert "KV cache" in result.stdout
    assert "Taken back: Bye" in result.stderr
    assert "/history" in result.stdout

    loaded = ChatSession.load(file, session.model)
    assert [turn["content"] for turn in loaded.history] == ["Hello", second]
    assert loaded.generation_config.max_new_tokens == 3
    again = run("chat", "--load", file, stdin="/history\n/reset\n/history\nHi\n")
    assert again.stdout.splitlines()[:2] == ["you> Hello", f"bot> {second}"]
    assert len(again.stdout.splitlines()) == 3


def test_session_options(tmp_path: Path) -> None:
    options = ["--seed", 1, "--preset", "paddle", "--candidates", 3, "--persona", "I am a cook.", "--avoid", "rap"]
    file = tmp_path / "chat.json"
    result = run("chat", *options, "--window", 50, stdin=f"Hello\n/candidates\n/stats\n/save {file}\n")
    session = ChatSession.from_pretrained(
        seed=1, preset="paddle", num_candidates=3, persona=["I am a cook."], reply_filter=["rap"], window_tokens=50
    )
    reply = session.reply("Hello")
    first, *candidates = result.stdout.splitlines()[:4]
    assert first == reply.text
    assert [line.partition(": ")[2] for line in candidates] == [candidate.text for candidate in reply.candidates]
    assert "3 with" in result.stdout
    loaded = ChatSession.load(file, session.model)
    assert (loaded.settings, loaded.preset) == (session.settings, "paddle")
    assert "no reply yet" in run("chat", stdin="/candidates\n").stderr
    assert "reverse=" in one_sentence(run("chat", "--preset", "paper-mmi"))
    refused = run("chat", "--load", file, "--window", 9)
    assert refused.exit_code != 0 and "window_tokens is given" in refused.stderr


ENDLESS = ["--greedy", "--min-new-tokens=100000", "--max-new-tokens=100000"]


@pytest.fixture(scope="module")
def talkative(save_folder: Callable[[Gpt2], Path]) -> Path:
    """A model with longer replies than a pipe or a terminal holds: 100,000 tokens, each a letter."""
    return save_folder(random_gpt2(gpt2_config(n_positions=1 << 17)))


def test_ctrl_c_stops_the_reply_and_not_the_chat(talkative: Path) -> None:
    """No clock: a pipe of 4 kB that nobody reads holds the reply up until the signal has come."""
    process = start("chat", str(talkative), *ENDLESS)
    assert process.stdin and process.stdout
    fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
    process.stdin.write(b"Hello\n")
    process.stdin.flush()
    begin = os.read(process.stdout.fileno(), 1)
    process.send_signal(signal.SIGINT)
    more = [
        "/history",
        "/stats",
        "/set min_new_tokens=2",
        "/set max_new_tokens=2",
        "And now?",
        "/stats",
        "/exit",
    ]
    out, err = process.communicate("\n".join(more).encode(), timeout=120)
    assert process.returncode == 0, err
    text = (begin + out).decode()
    assert "ended by cancelled" in text
    shown, kept = text.split("\nyou> Hello\nbot> ")
    assert kept.startswith(shown), "what was shown is in the history"
    assert len(shown) < 100_000
    assert "2 tokens, ended by length" in kept, "the next message is answered"


class Terminal:
    """A chat at a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self.fd, inner = pty.openpty()
        environment = {**os.environ, "TERM": "dumb"}
        self.process = start(*arguments, stdin=inner, stdout=inner, stderr=inner, env=environment)
        os.close(inner)
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait_for(self, text: str) -> str:
        """What was printed until `text` came, and take it off."""
        while text not in self.text:
            self._read()
        before, _, self.text = self.text.partition(text)
        return before

    def wait_for_more(self) -> None:
        """Until anything has been printed behind what was taken off."""
        while not self.text:
            self._read()

    def _read(self) -> None:
        assert select.select([self.fd], [], [], 60)[0], f"expected more than {self.text!r}"
        self.text += os.read(self.fd, 1024).decode()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
        self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("leave", ["\x03", "\x04", "/exit\n"], ids=["Ctrl-C", "Ctrl-D", "exit"])
def test_at_a_terminal(leave: str) -> None:
    with Terminal("chat", "--greedy", "--max-new-tokens", "5") as terminal:
        assert "demo" in terminal.wait_for("you> ")
        terminal.type("Hello\n")
        terminal.wait_for("bot> ")
        reply = terminal.wait_for("you> ").strip()
        assert reply == ChatSession.from_pretrained().reply("Hello", do_sample=False, max_new_tokens=5).text
        terminal.type("\n/histroy\n")
        terminal.wait_for("did you mean /history?")
        terminal.wait_for("you> ")
        terminal.type(leave)
        assert terminal.process.wait(timeout=60) == 0


def test_ctrl_c_at_a_terminal_during_a_reply(talkative: Path) -> None:
    """No clock here either: the terminal's buffer is 64 kB at most, and only then does anybody read on."""
    with Terminal("chat", str(talkative), *ENDLESS) as terminal:
        terminal.wait_for("you> ")
        terminal.type("Hello\n")
        terminal.wait_for("bot> ")
        terminal.wait_for_more()
        terminal.type("\x03")
        terminal.wait_for("you> ")
        terminal.type("/stats\n")
        assert "ended by cancelled" in terminal.wait_for("you> ")
        terminal.type("/exit\n")
        assert terminal.process.wait(timeout=60) == 0


def test_generate() -> None:
    prompts = ["Hello<|endoftext|>", "How are you?<|endoftext|>"]
    expected = Model.from_pretrained().generate(prompts)
    texts = [generation.text for generation in expected]
    assert run("generate", *prompts).stdout.splitlines() == texts
    assert run("generate", stdin="\n".join(prompts)).stdout.splitlines() == texts
    found = [json.loads(line) for line in run("generate", "--json", *prompts).stdout.splitlines()]
    assert [item["prompt"] for item in found] == prompts
    assert [tuple(item["token_ids"]) for item in found] == [generation.token_ids for generation in expected]
    sampled = run("generate", "--sample", "--seed", 4, "--top-k", 5, prompts[0]).stdout
    again = Model.from_pretrained().generate(prompts[0], do_sample=True, seed=4, top_k=5)
    assert sampled == again[0].text + "\n"


def test_score() -> None:
    context, reply = ["Hello", "Hi, how are you?"], "I'm fine."
    expected = Model.from_pretrained().score(context, reply)
    arguments = ["score", "-c", context[0], "-c", context[1], reply]
    found = json.loads(run(*arguments, "--json").stdout)
    assert found["perplexity"] == pytest.approx(expected.perplexity)
    assert found["token_ids"] == list(expected.token_ids)
    assert "".join(found["tokens"]) == reply + "<|endoftext|>"
    table = run(*arguments).stdout
    assert f"{expected.perplexity:.3f}" in table
    assert len(table.splitlines()) == 1 + len(expected.token_ids) + 3


def test_quantize_writes_a_model_and_reports(wide_folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("A first text.\n\nA second one.\n")
    dialogues = tmp_path / "dialogues.jsonl"
    dialogues.write_text('{"turns": ["Hi", "Hello there"]}\n' * 3)
    result = run(
        "quantize", wide_folder, "-o", tmp_path / "int8", "--report", "--text", text, "--text", dialogues
    )
    assert result.exit_code == 0, result.stderr
    assert "5 texts" in result.stdout
    assert "top-1 agreement" in result.stdout
    assert run("generate", "-m", tmp_path / "int8", "a").exit_code == 0
    sample = run("quantize", wide_folder, "-o", tmp_path / "again", "--report", "--limit", 4)
    assert "4 texts" in sample.stdout
    assert "bundled sample" in sample.stdout
    wrong = run(
        "quantize", wide_folder, "-o", tmp_path / "int8", "--report", "--text", wide_folder / "config.json"
    )
    assert wrong.exit_code == 0, "any text file is one text a line"
    dialogues.write_text('{"turns": "Hi"}\n')
    assert "line 1" in one_sentence(
        run("quantize", wide_folder, "-o", tmp_path / "int8", "--report", "--text", dialogues)
    )


def test_quality_is_what_the_definitions_say(wide_folder: Path) -> None:
    """Against the plain formulas; one text is longer than the window, one a row more than a block."""
    pair = [Model.from_pretrained(wide_folder, dtype=dtype) for dtype in ("float32", "int8")]
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 300, length).tolist() for length in (200, 65, 2, 1)]
    found = compare(*pair, texts)

    read = [text[:160] for text in texts if len(text) > 1]
    logits = [np.concatenate([model.logits(text) for text in read]).astype(np.float64) for model in pair]
    p, q = (scipy.special.log_softmax(rows, axis=1) for rows in logits)
    last = np.cumsum([len(text) for text in read]) - 1
    rows = np.setdiff1d(np.arange(len(p)), last)
    following = np.concatenate([text[1:] for text in read])
    assert (found.texts, found.positions, found.predicted) == (3, 227, 224)
    assert found.reference_perplexity == pytest.approx(np.exp(-p[rows, following].mean()), rel=1e-5)
    assert found.perplexity == pytest.approx(np.exp(-q[rows, following].mean()), rel=1e-5)
    assert found.mean_kl == pytest.approx((np.exp(p) * (p - q)).sum(axis=1).mean(), rel=1e-3)
    assert found.top1_agreement == (p.argmax(axis=1) == q.argmax(axis=1)).mean()
    same = compare(pair[0], pair[0], texts)
    assert (same.mean_kl, same.top1_agreement, same.relative_difference) == (0, 1, 0)


def test_info_shows_what_generation_config_json_says(tmp_path: Path, tiny_folder: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
    says = {"max_length": 30, "suppress_tokens": [4], "top_k": 7, "kappa": "quite unknown"}
    (folder / "generation_config.json").write_text(json.dumps(says))
    shown = " ".join(run("info", folder).stdout.split())
    assert "generation config max_length=30, top_k=7, suppress_tokens=[4]" in shown and "kappa" not in shown
    assert "generation config nothing" in " ".join(run("info", tiny_folder).stdout.split())


def test_info(tiny_folder: Path) -> None:
    result = run("info", tiny_folder, "--threads", 1)
    assert result.exit_code == 0
    for name, _, missing in _core.isa_ladder():
        line = next(line for line in result.stdout.splitlines() if line.startswith(name))
        assert not missing or f"lacks {', '.join(missing)}" in line
    assert re.search(rf"^{_core.chosen_isa()} .*chosen", result.stdout, re.MULTILINE)
    assert "2 layers, 40 channels, 5 heads" in result.stdout
    assert re.search(r"^window +64 tokens", result.stdout, re.MULTILINE)
    assert re.search(r"^threads +1 ", result.stdout, re.MULTILINE)
    assert "model.safetensors" in result.stdout


def test_a_forced_rung_is_named_and_a_wrong_one_refused() -> None:
    def info(isa: str) -> tuple[str, str, int]:
        process = start("info", env={**os.environ, "DIALOCPP_ISA": isa})
        out, err = process.communicate(timeout=60)
        return out.decode(), err.decode(), process.returncode

    out, _, status = info("scalar")
    assert status == 0
    assert "chosen, because DIALOCPP_ISA names it" in out
    out, err, status = info("sse9")
    assert status == 1
    assert "'sse9'" in err
    assert len(err.splitlines()) == 1


def test_pull_prepares_a_model_and_says_where_it_lies(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dialocpp.checkpoint.packed.cache.MIN_SOURCE_BYTES", 0)
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    assert run("pull", folder).stdout == f"{folder}\n"
    copy = cache_file(weight_files(folder))
    assert copy.is_file() and folder not in copy.parents
    assert str(copy) in run("info", folder).stdout


MISTAKES = {
    "no such folder": ["chat", "./no/folder"],
    "not in the cache": ["pull", "nobody/nothing", "--local-files-only"],
    "dtype": ["generate", "--dtype", "int3", "Hi"],
    "temperature": ["generate", "--sample", "--temperature", "-1", "Hi"],
    "threads": ["score", "--threads", "0", "-c", "Hi", "Hello"],
    "empty prompt": ["generate", ""],
    "surrogate": ["generate", "\udc80"],
}


@pytest.mark.parametrize("arguments", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    one_sentence(run(*arguments))


@pytest.mark.parametrize(
    "arguments",
    [["chta"], ["score", "Hi"], ["quantize", "x"], ["quantize", "x", "-o", "y", "--limit", "3"], ["pull"]],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_ctrl_c_elsewhere_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dialocpp.cli.options.load_checkpoint", interrupted)
    assert run("info").exit_code == 130
