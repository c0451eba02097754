"""Does `dialocpp eval` measure what it is given, and say in one sentence what it lacks?"""

import json
from pathlib import Path

import dialocpp
import pytest
from click.testing import CliRunner, Result
from dialocpp.cli import main

FIXTURES = Path(__file__).parents[1] / "evaluation" / "metric_fixtures"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["eval", *map(str, arguments)])


def test_written_replies_beside_the_papers() -> None:
    done = run("--hypotheses", FIXTURES / "hyp.txt", "--references", FIXTURES / "ref0.txt", "--no-meteor", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows][::6] == ["Human response", "hyp.txt"]
    expected = {"NIST-2": 1.4095, "NIST-4": 1.4492, "BLEU-2": 0.1308, "BLEU-4": 0.0767}
    assert {name: round(rows[-1]["measures"][name]["value"], 4) for name in expected} == expected
    assert rows[-1]["measures"]["BLEU-4"]["margin"] > 0


def test_several_references_and_a_plot(tmp_path: Path) -> None:
    references = [word for number in range(5) for word in ("--references", FIXTURES / f"ref{number}.txt")]
    options = ["--no-meteor", "--samples", 0, "--published", "none", "--plot", tmp_path / "plot.svg"]
    done = run("--hypotheses", FIXTURES / "hyp.txt", *references, *options)
    head, row = done.stdout.splitlines()
    assert head.split()[:4] == ["NIST-2", "NIST-4", "BLEU-2", "BLEU-4"]
    assert row.split()[:5] == ["hyp.txt", "7.41", "7.82", "76.66%", "74.00%"]
    assert (tmp_path / "plot.svg").read_text(encoding="utf-8").count("<svg") == 1


def test_without_references_what_needs_none() -> None:
    done = run("--hypotheses", FIXTURES / "hyp.txt", "--published", "none", "--samples", 0, "--format", "markdown")
    assert done.stdout.splitlines()[0] == "|  | Entropy-4 | Dist-1 | Dist-2 | Avg. length |"


def test_meteor_that_is_not_there_is_said_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dialocpp.evaluation.meteor.archive", lambda: None)
    done = run("--hypotheses", FIXTURES / "hyp.txt", "--references", FIXTURES / "ref0.txt", "--samples", 0, "--json")
    assert "expected meteor-1.5.jar, found none" in done.stderr
    assert "METEOR" not in json.loads(done.stdout)[-1]["measures"]


def test_a_models_perplexity(tmp_path: Path) -> None:
    whole, cut = json.loads(run("--json").stdout), json.loads(run("--positions", 8, "--json").stdout)
    assert (whole["texts"], cut["texts"]) == (24, 24) and cut["tokens"] == 24 * 7 < whole["tokens"]
    assert whole["perplexity"] != cut["perplexity"] and whole["bits_per_byte"] < 2
    file = tmp_path / "texts.txt"
    file.write_text("Hello there.\nHow are you?\n")
    assert json.loads(run(file, "--limit", 1, "--json").stdout)["texts"] == 1
    assert run(file).stdout.splitlines()[-1].startswith("bits per byte")


def test_conversations_the_same_however_they_are_run(tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    file.write_text('{"turns": ["Hello, how are you?", "Fine."]}\n{"turns": ["Do you like music?", "Yes."]}\n')
    done = run("--conversations", 2, file, "--turns", 3, "--compare", "--json")
    assert done.exit_code == 0, done.output
    ways = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(way["threads"], way["batch"]) for way in ways] == [(1, 1), (1, 16), (2, 1), (2, 16)]
    assert len({way["digest"] for way in ways}) == 1 and all(way["replies"] == 6 for way in ways)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--references", FIXTURES / "ref0.txt"], 2, "expected --hypotheses with --references"),
        (["--hypotheses", FIXTURES / "hyp.txt", "-m", "x"], 2, "found both"),
        (["--conversations", 1, FIXTURES / "hyp.txt", FIXTURES / "hyp.txt"], 2, "expected one file or folder"),
        (["--conversations", 1, FIXTURES], 1, r"expected files named *.test.jsonl"),
        (["--conversations", 1, FIXTURES / "hyp.txt"], 1, 'hyp.txt, line 1: expected an object {"turns"'),
        (["--hypotheses", FIXTURES / "hyp.txt", "--references", FIXTURES / "README.md"], 1, "expected 300 lines"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[object], code: int, message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == code and message in done.stderr


def test_grading_two_models_from_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "grades.jsonl"
    demo = Path(dialocpp.__file__).parent / "demo_model"
    arguments = ["eval", "--against", str(demo), "--grades", str(path), "--limit", "5"]
    done = CliRunner().invoke(main, arguments, input="1\n2\n")
    assert done.exit_code == 0, done.output
    grades = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [grade["number"] for grade in grades] == [0, 1]
    assert "the demo model" not in done.stdout.split("share")[0].split("better:")[1]
    assert "grade" in run("--grades", path).stderr
