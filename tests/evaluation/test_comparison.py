"""Are two models compared fairly: on the same messages, in an order that gives nothing away, and with nothing lost?"""

import json
from pathlib import Path

import pytest
from dialocpp import Model
from dialocpp.cli import grading
from dialocpp.evaluation.comparison import Pair, Wins, pairs, read_grades, wins, write_grade
from scipy.stats import binomtest

NAMES = ("ours", "theirs")
PAIR = Pair(3, "Hi", "of the model", "of the other", model_first=False)


def test_what_is_shown_and_chosen_belong_together() -> None:
    for first in (True, False):
        pair = Pair(0, "Hi", "of the model", "of the other", first)
        owner = {"of the model": "model", "of the other": "against"}
        assert [pair.better("1"), pair.better("2")] == [owner[text] for text in pair.shown]
        assert pair.better("=") == "neither"


def test_both_answer_the_same_messages_with_the_same_seed() -> None:
    model = Model.from_pretrained(num_threads=1)
    found = list(pairs(model, model, dict.fromkeys(range(12), "Do you like music?")))
    assert all(pair.model == pair.against for pair in found)
    assert len({pair.model for pair in found}) > 3
    assert 2 < sum(pair.model_first for pair in found) < 10
    assert found[4:] == list(pairs(model, model, dict.fromkeys(range(4, 12), "Do you like music?")))


def test_grades_are_kept_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "grades.jsonl"
    assert read_grades(path, NAMES) == {}
    write_grade(path, PAIR, "against", NAMES)
    write_grade(path, Pair(4, "Ho\n", "ä", "b", True), "neither", NAMES)
    assert read_grades(path, NAMES) == {3: "against", 4: "neither"}
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[1])["message"] == "Ho\n"


@pytest.mark.parametrize("line", ["{", "[]", '{"number": 1}', '{"number": "x", "better": "model", "names": []}'])
def test_a_line_that_is_no_grade(tmp_path: Path, line: str) -> None:
    path = tmp_path / "grades.jsonl"
    write_grade(path, PAIR, "model", NAMES)
    with path.open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match="line 2: expected a grade"):
        read_grades(path, NAMES)


def test_grades_of_other_models_are_not_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "grades.jsonl"
    write_grade(path, PAIR, "model", NAMES)
    with pytest.raises(ValueError, match="expected a grade of ours and others, found"):
        read_grades(path, ("ours", "others"))


@pytest.mark.parametrize(("model", "against"), [(0, 5), (7, 3), (60, 40), (1, 0)])
def test_the_interval_is_wilsons(model: int, against: int) -> None:
    share, low, high = Wins(model, against, 9).share()
    theirs = binomtest(model, model + against).proportion_ci(0.95, method="wilson")
    assert share == model / (model + against)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-4)


def test_nothing_decided_says_nothing() -> None:
    assert wins({1: "neither"}).share() == (0.5, 0.0, 1.0)


def test_grading_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Model.from_pretrained(num_threads=1)
    messages, path = {n: f"Hello number {n}" for n in range(3)}, tmp_path / "grades.jsonl"
    answers = iter(["1", "q", "2", "="])
    monkeypatch.setattr(grading.click, "prompt", lambda *_, **__: next(answers))
    for _ in range(2):
        grading.grade(model, model, NAMES, messages, path)
    shown = capsys.readouterr().out
    assert [shown.count(f"> Hello number {n}") for n in range(3)] == [1, 2, 1]
    assert sorted(read_grades(path, NAMES)) == [0, 1, 2] and "neither  1" in shown
