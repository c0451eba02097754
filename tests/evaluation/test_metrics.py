"""Do the paper's measures give what the official programs give, to the digits that these print?"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp.errors import DialocppError
from dialocpp.evaluation import meteor as meteor_file
from dialocpp.evaluation.dialogue_files import lines_of
from dialocpp.evaluation.diversity import ngrams
from dialocpp.evaluation.meteor import meteor, missing
from dialocpp.evaluation.metrics import evaluated, measures
from dialocpp.evaluation.ngrams import words_of
from dialocpp.evaluation.overlap import overlap

FIXTURES = Path(__file__).with_name("metric_fixtures")
EXPECTED = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
CASES = EXPECTED["cases"]


def texts_of(case: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    return lines_of(FIXTURES / case["hyp"]), [lines_of(FIXTURES / name) for name in case["refs"]]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['hyp']}-{len(case['refs'])}")
def test_nist_and_bleu_are_those_of_mteval(case: dict[str, Any]) -> None:
    counts = overlap(*texts_of(case)).summed(np.ones(300))
    assert [round(counts.nist(order), 4) for order in range(1, 6)] == case["nist_cumulative_1_to_5"]
    assert [round(counts.bleu(order), 4) for order in range(1, 5)] == case["bleu_cumulative_1_to_4"]


@pytest.mark.parametrize("case", [case for case in CASES if "entropy_1_to_4" in case], ids=lambda case: case["hyp"])
def test_entropy_distinct_and_length_are_those_of_dialogpt(case: dict[str, Any]) -> None:
    said, _ = texts_of(case)
    once = np.ones(len(said))
    assert [round(ngrams(said, order).entropy(once), 6) for order in range(1, 5)] == case["entropy_1_to_4"]
    assert [round(ngrams(said, order).distinct(once), 6) for order in (1, 2)] == case["dist_1_2"]
    assert round(measures(said)["Avg. length"](once), 6) == case["avg_len"]


def test_the_papers_row_human(shared: Path) -> None:
    said = lines_of(shared / "data" / "dialogpt-eval" / "human.ref.6k.txt")
    found = {name: measure(np.ones(len(said))) for name, measure in measures(said).items()}
    assert round(found["Entropy-4"], 1) == 11.0
    assert round(100 * found["Dist-1"], 1) == 14.5
    assert round(100 * found["Dist-2"], 1) == 63.0
    assert round(found["Avg. length"], 1) == 13.1


@pytest.mark.skipif(missing() is not None, reason="needs Java and METEOR's archive")
def test_meteor_is_that_of_its_archive() -> None:
    assert meteor(*texts_of(CASES[1])) == pytest.approx(CASES[1]["meteor"], abs=1e-12)


def test_meteor_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(meteor_file, "archive", lambda: None)
    assert "expected meteor-1.5.jar, found none" in (missing() or "")
    with pytest.raises(DialocppError, match="no METEOR"):
        meteor(["a"], [["a"]])
    monkeypatch.setattr(meteor_file, "archive", lambda: tmp_path / "meteor-1.5.jar")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "expected java on PATH" in (missing() or "")


def test_a_program_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'Unable to access jarfile' >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setattr(meteor_file, "archive", lambda: tmp_path / "meteor-1.5.jar")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(DialocppError, match="exit code 1: Unable to access jarfile"):
        meteor(["a"], [["a"]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", ["hello", ",", "world", "!"]),
        ("3.5 and 1,000. Yes.", ["3.5", "and", "1,000", ".", "yes", "."]),
        ("it's 10-20 &quot;ok&quot;", ["it's", "10", "-", "20", '"', "ok", '"']),
        ("a-b (c)/d", ["a-b", "(", "c", ")", "/", "d"]),
        ("", []),
    ],
)
def test_words_as_mteval_sees_them(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_bleu_and_nist_agree_with_another_implementation() -> None:
    """sacrebleu's 13a tokeniser and exponential smoothing are mteval's, with case."""
    bleu_file = pytest.importorskip("sacrebleu.metrics.bleu")
    for case in CASES:
        said, expected = texts_of(case)
        said, expected = said[::7], [texts[::7] for texts in expected]
        for order in (2, 4):
            theirs = bleu_file.BLEU(max_ngram_order=order, lowercase=True).corpus_score(
                said[::7], [e[::7] for e in expected]
            )
            ours = overlap(said[::7], [e[::7] for e in expected]).summed(np.ones(len(said[::7])))
            assert 100 * ours.bleu(order) == pytest.approx(theirs.score, abs=1e-9)


@pytest.mark.parametrize("said", ["", "nothing in common", "a"])
def test_no_overlap_is_zero_and_no_error(said: str) -> None:
    counts = overlap([said], [["some other words here"]]).summed(np.ones(1))
    assert [counts.bleu(2), counts.bleu(4), counts.nist(2), counts.nist(4)] == [0, 0, 0, 0]


def test_a_margin_is_the_bootstraps_and_the_same_for_the_same_seed() -> None:
    """The mean's standard error is known: s / sqrt(n)."""
    said = ["a " * n for n in range(1, 101)]
    value = evaluated(measures(said)["Avg. length"], 100, samples=4000, seed=1)
    expected = 1.96 * float(np.std(np.arange(1, 101))) / math.sqrt(100)
    assert value.value == 50.5 and value.margin == pytest.approx(expected, rel=0.05)
    assert value == evaluated(measures(said)["Avg. length"], 100, samples=4000, seed=1)
    assert evaluated(measures(said)["Avg. length"], 100, samples=0).margin is None


def test_a_weight_is_how_often_a_text_is_taken() -> None:
    said, expected = ["a b c", "d e", "a b"], [["a b d", "d e", "x y"]]
    twice = measures([said[0], said[0], said[2]], [[expected[0][0], expected[0][0], expected[0][2]]])
    weighted = measures(said, expected)
    for name in ("BLEU-2", "Entropy-4", "Dist-1", "Dist-2", "Avg. length"):
        assert weighted[name](np.array([2.0, 0, 1])) == pytest.approx(twice[name](np.ones(3)))


@pytest.mark.parametrize(
    ("said", "expected", "message"),
    [([], [], "expected at least one reply, found none"), (["a"], [["a"], ["a", "b"]], "lines in reference 2")],
)
def test_texts_that_do_not_belong_together(said: list[str], expected: list[list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measures(said, expected)


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "replies"
    path.write_bytes("a\u2028b\r\n\nc\x85d".encode())
    assert lines_of(path) == ["a\u2028b", "", "c\x85d"]
    path.write_bytes(b"a\n")
    assert lines_of(path) == ["a"]
    path.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="expected text in UTF-8"):
        lines_of(path)
