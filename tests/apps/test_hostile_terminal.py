"""What becomes of texts that steer a terminal, outputs that are gone and odd inputs? Whole programs."""

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from dialocpp import ChatSession
from dialocpp.cli import main, output
from dialocpp.cli.line_input import checked_text, lines
from dialocpp.cli.options import parse_setting
from dialocpp.cli.output import sentence
from dialocpp.cli.visible import visible
from rich.table import Table
from rich.text import Text
from sentences import one_sentence

pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="terminals and devices as POSIX has them")

COMMAND = [sys.executable, "-m", "dialocpp"]
STEERING = {
    "escape": "\x1b[2J\x1b]0;title\x07",
    "C1": "\x9b2J\x9d0;t\x9c",
    "carriage return": "good\rbad",
    "backspace": "good\b\b\b\bbad",
    "direction": "a\u202eb\u2066c\u200f",
    "lines": "a\u2028b\u0085c\x0bd\x0ce",
    "tags": "a\U000e0041\U000e007f",
    "others": "\x00\x05\x0e\x7f\ufeff",
}
RAW = set("".join(STEERING.values())) - set("2Jabcdegotil0;[]")


def run(*arguments: str, shell: str = "", **options: Any) -> "subprocess.CompletedProcess[bytes]":
    command = shell.replace("dialocpp", f"{sys.executable} -m dialocpp") if shell else [*COMMAND, *arguments]
    return subprocess.run(
        ["bash", "-c", command] if isinstance(command, str) else command,
        check=False,
        **({"capture_output": True, "timeout": 120} | options),
    )


def at_terminal(*arguments: str, typed: str = "", **environment: str) -> str:
    """All that a terminal is sent by a command that ends by itself, stderr too."""
    outer, inner = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env={**os.environ, "TERM": "dumb", "PYTHONUTF8": "1", **environment},
    )
    os.close(inner)
    os.write(outer, typed.encode())
    said = b""
    while select.select([outer], [], [], 60)[0]:
        try:
            piece = os.read(outer, 4096)
        except OSError:  # Linux says so when the other end is closed
            break
        if not piece:
            break
        said += piece
    process.wait(timeout=60)
    os.close(outer)
    return said.decode(errors="surrogateescape").replace("\r\n", "\n")


def plain(said: str, typed: str = "") -> str:
    """Without what the terminal itself echoes, and readline's own."""
    return said.replace("\x1b[?2004h", "").replace("\x1b[?2004l\r", "").replace("\x1b[?2004l", "")


@pytest.mark.parametrize("text", STEERING.values(), ids=STEERING)
def test_marks(text: str) -> None:
    seen = visible(text)
    assert not RAW & set(seen) and seen != text
    assert visible(seen) == seen
    for fine in ("a\tb\n", "ü 😀 👩‍👩‍👧 نص עברית 漢字 é ß", "␛ <U+202E>", ""):
        assert visible(fine) == fine


# What a stranger's text may reach a terminal through


@pytest.fixture(scope="module")
def conversation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved one in which the model has said what steers."""
    path = tmp_path_factory.mktemp("saved") / "chat.json"
    chat = ChatSession.from_pretrained(seed=1)
    chat.reply("Hello")
    chat.save(path)
    saved = json.loads(path.read_text())
    text = "f" + "g".join(STEERING.values())
    saved["turns"][1] |= {"content": text, "token_ids": chat.model.tokenizer.encode(text)}
    path.write_text(json.dumps(saved))
    return path


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_written_and_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "".join(STEERING.values())
    monkeypatch.setattr(sys, "stdout", FakeTerminal())
    monkeypatch.setattr(sys, "stderr", FakeTerminal())
    output.write(text)
    output.json_line({"text": text})
    output.heading(text)
    output.facts([("name", text)])
    output.console.print(Text(text), Table("a", title=text))
    output.speaker(text, "bold", text)
    output.show_warning(UserWarning(text), UserWarning)
    said = sys.stdout.getvalue() + sys.stderr.getvalue()  # type: ignore[attr-defined]
    own = re.sub("\x1b\\[[0-9;]*m", "", said)  # rich's colours
    assert not RAW & set(own), ascii(own)
    assert own.count("␛") > 6


def test_the_history_at_a_terminal(conversation: Path) -> None:
    said = plain(at_terminal("chat", "--load", str(conversation), typed="/history\nHello\n/candidates\n/exit\n"))
    assert not RAW - {"\r"} & set(said), ascii(said)
    assert all(mark in said for mark in ("␛", "␍", "<U+202E>", "<U+009B>"))


def test_a_pipe_gets_the_text_as_it_is(conversation: Path) -> None:
    done = run("chat", "--load", str(conversation), input=b"/history\n")
    history = json.loads(conversation.read_text())["turns"]
    names = {"user": "you> ", "assistant": "bot> "}
    assert done.stdout.decode() == "".join(f"{names[turn['role']]}{turn['content']}\n" for turn in history)


def test_a_folder_s_name_and_what_its_files_say(tmp_path: Path) -> None:
    text = "".join(STEERING.values()).replace("\0", "").replace("/", "")
    folder = tmp_path / f"m{text}"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": f"gpt{text}", "architectures": [text]}))
    for command in (("info",), ("generate", "x", "-m"), ("chat", "--load", "x", "--reverse")):
        said = plain(at_terminal(*command, str(folder)))
        assert not RAW - {"\r"} & set(said), ascii(said)
        assert "rror" in said


def test_a_template_s_own_error_at_a_terminal(tmp_path: Path) -> None:
    from dialocpp.checkpoint import export_checkpoint  # noqa: F401 - the demo is packed: its files are copied
    from dialocpp.checkpoint.resolve import DEMO_FOLDER

    for path in DEMO_FOLDER.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["chat_template"] = "{{ raise_exception('no \\x1b[2J\\u202e\\x9b') }}"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    said = plain(at_terminal("chat", str(tmp_path), "--format", "template"))
    assert not RAW - {"\r"} & set(said), ascii(said)
    assert "chat template" in said


# Outputs that are gone


@pytest.mark.parametrize(
    "shell",
    [
        "yes hello | dialocpp chat --greedy --max-new-tokens 3 | head -1",
        "yes /help | dialocpp chat | head -1",
        "yes hello | head -50 | dialocpp generate --max-new-tokens 9 | head -1",
        "dialocpp info | head -1",
        "dialocpp --help | head -1",
        "dialocpp chat --help | true",
    ],
)
def test_a_reader_that_leaves_ends_it_quietly(shell: str) -> None:
    done = run(shell=shell)
    errors = [line for line in done.stderr.decode().splitlines() if "demo model" not in line and "yes:" not in line]
    assert errors == []


@pytest.mark.parametrize(
    "shell",
    [
        "yes hello | head -3 | dialocpp chat --greedy > /dev/full",
        "echo /help | dialocpp chat > /dev/full",
        "echo /history | dialocpp info > /dev/full",
        "dialocpp generate Hello > /dev/full",
        "dialocpp generate --json Hello > /dev/full",
        "dialocpp score -c Hi Hello > /dev/full",
        "dialocpp score --json -c Hi Hello > /dev/full",
        "dialocpp --version > /dev/full",
        "dialocpp chat --help > /dev/full",
        "dialocpp generate Hello >&-",
        "dialocpp info >&-",
    ],
)
def test_an_output_that_cannot_be_written_is_an_error(shell: str) -> None:
    done = run(shell=shell)
    (error,) = [line for line in done.stderr.decode().splitlines() if "demo model" not in line]
    assert error.startswith("Error: ") and ("No space left" in error or "closed" in error)
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("shell", "status"),
    [
        ("dialocpp chat <&-", 0),
        ("dialocpp generate <&-", 1),
        ("dialocpp chat <&- >&- 2>&-", 0),
        ("echo Hello | dialocpp chat 2>&-", 0),
        ("dialocpp generate -m ./no/such/folder x 2>&-", 1),
        ("dialocpp generate -m ./no/such/folder x 2>/dev/full", 1),
        ("dialocpp generate Hello > /dev/full 2>/dev/full", 1),
    ],
)
def test_streams_that_are_closed(shell: str, status: int) -> None:
    done = run(shell=shell)
    assert b"Traceback" not in done.stderr and b"Exception" not in done.stderr
    assert done.returncode == status, done.stderr


# Odd surroundings


@pytest.mark.parametrize("columns", ["0", "-5", "7", "many"])
def test_any_number_of_columns(columns: str) -> None:
    done = run("info", env={**os.environ, "COLUMNS": columns})
    assert done.returncode == 0 and b"Model dialocpp-demo" in done.stdout and b"layers" in done.stdout
    scored = run("score", "-c", "Hi", "Hello", env={**os.environ, "COLUMNS": columns})
    assert scored.returncode == 0 and b"perplexity" in scored.stdout


ASCII = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_locale_of_ascii(tmp_path: Path) -> None:
    environment = {**os.environ, **ASCII}
    folder = tmp_path / "mödel"
    folder.mkdir()
    for arguments in (("info",), ("score", "-c", "Hé", "Hello ü😀"), ("generate", "ü"), ("info", str(folder))):
        done = run(*arguments, env=environment)
        assert b"Traceback" not in done.stderr, done.stderr
        assert done.returncode == (arguments[-1] == str(folder))
    done = run("chat", "--greedy", input="Hé 😀\n/history\n".encode(), env=environment)
    assert done.returncode == 0 and b"you> H\\xe9 \\U0001f600\n" in done.stdout and done.stderr.count(b"\n") == 1


# Odd input


def test_blank_lines_and_a_byte_order_mark() -> None:
    wanted = run("generate", "--greedy", input=b"Hello\nBye\n").stdout
    assert run("generate", "--greedy", input=b"\xef\xbb\xbfHello\r\n\r\n  \t\n\nBye").stdout == wanted != b""
    said = run("chat", "--greedy", input=b"\xef\xbb\xbf\n\n/set max_new_tokens=3\n\nHello\n \n/history\n\n")
    assert said.stdout.splitlines()[1] == b"you> Hello" and len(said.stdout.splitlines()) == 3
    assert b"rror" not in said.stderr and b"expected" not in said.stderr
    nothing = run("generate", input=b"\xef\xbb\xbf\n \n\n")
    assert nothing.returncode == 1 and b"found none" in nothing.stderr
    assert list(lines(["\ufeff\ufeffa\n", "\ufeffb\r\n", "\n", "c"])) == ["\ufeffa", "\ufeffb", "c"]


@pytest.mark.parametrize("line", [b"a\xffb", b"\xe9t\xe9", b"\xc0\xaf", b"\xed\xa0\x80", "Grüße".encode("latin-1")])
def test_input_that_is_no_utf_8_costs_one_sentence(line: bytes) -> None:
    done = run("chat", "--greedy", "--max-new-tokens", "3", input=line + b"\nHello\n/history\n")
    _, error = done.stderr.decode().splitlines()
    assert error.startswith("expected text in UTF-8, found the byte 0x")
    assert done.returncode == 0 and b"you> Hello" in done.stdout
    refused = run("generate", input=b"Hello\n" + line)
    assert refused.returncode == 1 and b"expected text in UTF-8" in refused.stderr


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ('stop_strings=["Bot:", "You:"]', ["Bot:", "You:"]),
        ('stop_strings = "None of it"', "None of it"),
        ('bad_words=["True", "É"]', ["True", "É"]),
        ("do_sample=False", False),
        ("do_sample=TRUE", True),
        ("top_k=None", None),
        ("top_k=null", None),
        ("temperature=7e-1", 0.7),
        ("eos_token_id=[1, 2]", [1, 2]),
        ('stop_strings="a=b"', "a=b"),
    ],
)
def test_a_setting_is_json(typed: str, value: object) -> None:
    assert parse_setting(typed) == {typed.partition("=")[0].strip(): value}


ODD_SETTINGS = ["a", "=1", "", "a=", "a=[", "a=" + "[" * 100_000, "a" * 10**6 + "=x", "a=" + "x" * 10**6]


@pytest.mark.parametrize("typed", ODD_SETTINGS, ids=range(len(ODD_SETTINGS)))
def test_a_setting_that_is_none(typed: str) -> None:
    with one_sentence(ValueError, "expected"):
        parse_setting(typed)


def test_stop_strings_keep_their_capitals() -> None:
    typed = '/set stop_strings=["Bot:", "I"]\nHello\n/stats\n'
    said = CliRunner().invoke(main, ["chat", "--greedy"], input=typed).stdout
    expected = ChatSession.from_pretrained().reply("Hello", do_sample=False, stop_strings=["Bot:", "I"])
    assert said.splitlines()[0] == expected.text and f"ended by {expected.finish_reason}" in said


def test_a_format_of_one_s_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def shout(dialogue):\n    for turn in dialogue.turns:\n        yield turn.content.upper()\n"
        "        yield dialogue.eos_token_id\nconstant = 5\n"
    )
    (tmp_path / "tokenizers.py").write_text("raise SystemExit('a planted module')\n")
    script = "import sys; sys.path.remove(''); from dialocpp.cli import main; main(prog_name='dialocpp')"

    def chat(name: str, *more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", script, "chat", "--format", name, "--greedy", *more]
        typed = f"Hello\n/stats\n/save {tmp_path / 'saved.json'}\n"
        return subprocess.run(command, input=typed, capture_output=True, text=True, cwd=tmp_path, check=False)

    done = chat("mine:shout")
    assert done.returncode == 0 and "shout" in done.stdout, done.stderr
    again = chat("mine:shout", "--load", str(tmp_path / "saved.json"))
    assert again.returncode == 2 or "shout" in again.stdout, again.stderr
    for name in ("mine:nothing", "nothing:shout", ":shout", "mine:", "mine:constant", "nonsense", "a.b:c", "x" * 5000):
        failed = chat(name)
        assert failed.returncode == 2 and "Traceback" not in failed.stderr and "expected" in failed.stderr
        assert len(failed.stderr) < 1500


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    typed = "/save /nonexistent/x\n/save /dev/full\n/save /proc/1/x/y\n/save " + "a" * 5000 + "\n"
    done = run("chat", input=typed.encode())
    _, *errors = done.stderr.decode().splitlines()
    assert len(errors) == 4 and not any("None" in error for error in errors)
    assert "no folder" in errors[0] or "found none" in errors[0]
    assert all(len(error) < 700 for error in errors) and done.returncode == 0


def test_a_long_wrong_value_is_cut() -> None:
    long = "w" * 1_000_000
    many = f"/set temperature=[{'1,' * 99999}1]"
    typed = [f"/{long}", f"/undo {long}", f"/set {long}=1", f"/set top_k={long}", many, f"/save {long}", ""]
    done = CliRunner().invoke(main, ["chat"], input="\n".join(typed))
    assert done.exit_code == 0 and len(done.stderr.splitlines()) == 7
    assert all(len(line) < 700 for line in done.stderr.splitlines())
    assert len(sentence(ValueError(long))) < 700 and sentence(ValueError()) == "ValueError"
    assert checked_text(long) == long


@pytest.mark.parametrize(
    "arguments",
    [
        ["throughput", "--sequences", "1000000000"],
        ["latency", "--new-tokens", "1000000000000"],
        ["latency", "--runs", "99999999"],
        ["chat", "--turns", "99999999"],
        ["latency", "--threads", "1000000"],
    ],
)
def test_sizes_of_the_benchmark_are_bounded(arguments: list[str]) -> None:
    done = CliRunner().invoke(main, ["bench", *arguments])
    assert done.exit_code == 2 and "range" in done.stderr
