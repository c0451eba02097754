"""Is a table of measures printed as it should be, in every form, with the published rows beside?"""

import json
import struct
import sys
from pathlib import Path

import pytest
from dialocpp.errors import DialocppError
from dialocpp.evaluation.libraries import library_measures
from dialocpp.evaluation.metrics import Value
from dialocpp.evaluation.table import FORMATS, TABLES, Row, plot, published

OURS = Row(
    "a_b & c|d", {"NIST-2": Value(3.14159, 0.05), "BLEU-2": Value(0.12344, 0.0125), "Avg. length": Value(7.28, None)}
)
PAPER = Row("Paper", {"NIST-2": Value(2.5, None)}, published=True)


def test_text() -> None:
    assert FORMATS["text"]([PAPER, OURS]).splitlines() == [
        "                NIST-2         BLEU-2  Avg. length",
        "Paper             2.50",
        "a_b & c|d  3.14 ± 0.05  12.34 ± 1.25%          7.3",
    ]


def test_markdown() -> None:
    assert FORMATS["markdown"]([PAPER, OURS]).splitlines() == [
        "|  | NIST-2 | BLEU-2 | Avg. length |",
        "| --- | ---: | ---: | ---: |",
        "| Paper | 2.50 |  |  |",
        "| a_b & c\\|d | 3.14 ± 0.05 | 12.34 ± 1.25% | 7.3 |",
    ]


def test_latex() -> None:
    assert FORMATS["latex"]([PAPER, OURS]).splitlines() == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r" & NIST-2 & BLEU-2 & Avg. length \\",
        r"\midrule",
        r"Paper & 2.50 & -- & -- \\",
        r"a\_b \& c|d & 3.14 $\pm$ 0.05 & 12.34 $\pm$ 1.25\% & 7.3 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_json_keeps_all_digits() -> None:
    paper, ours = json.loads(FORMATS["json"]([PAPER, OURS]))
    assert paper == {"name": "Paper", "published": True, "measures": {"NIST-2": {"value": 2.5}}}
    assert ours["measures"]["BLEU-2"] == {"value": 0.12344, "margin": 0.0125}


@pytest.mark.parametrize("table", TABLES)
def test_the_published_rows_are_those_of_the_paper(shared: Path, table: str) -> None:
    source = json.loads((shared / "data" / "dialogpt-eval" / "published-results.json").read_text(encoding="utf-8"))
    theirs = source["6k_multi_ref" if table == "6k" else table]
    names = {"NIST4": "NIST-4", "BLEU2": "BLEU-2", "METEOR": "METEOR", "ENT-4": "Entropy-4", "DIST-2": "Dist-2"}
    for row, their in zip(published(table), theirs, strict=True):
        assert row.name == their["Experiment"] and row.published
        for theirs_name, name in names.items():
            text = their[theirs_name]
            scale = 100 if text.endswith("%") else 1
            assert row.values[name].value * scale == pytest.approx(float(text.rstrip("%")))


@pytest.mark.parametrize("measures", [1, 3, 9])
def test_a_plot_is_drawn(tmp_path: Path, measures: int) -> None:
    names = list(published("6k")[0].values)[:measures]
    rows = [Row(row.name, {name: row.values[name] for name in names}) for row in published("6k")]
    plot([*rows, OURS], tmp_path / "p.png")
    data = (tmp_path / "p.png").read_bytes()
    assert data.startswith(b"\x89PNG") and min(struct.unpack(">II", data[16:24])) > 100


def test_a_plot_needs_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(DialocppError, match="expected matplotlib for a plot, found none"):
        plot([OURS], tmp_path / "p.png")


def test_rouge_and_chrf_of_known_texts() -> None:
    """ROUGE-L of `a b c` against `a x c d`: 2 common words, F1 = 2 · (2/3 · 2/4) / (2/3 + 2/4) = 4/7."""
    pytest.importorskip("rouge_score")
    found = library_measures(["a b c", "same"], [["a x c d", "same"], ["none", "other"]], samples=0)
    assert found["ROUGE-L"].value == pytest.approx((4 / 7 + 1) / 2)
    assert library_measures(["same"], [["same"]], samples=0)["chrF"].value == pytest.approx(100)


def test_libraries_that_are_not_there_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dialocpp.evaluation.libraries.find_spec", lambda name: None)
    assert library_measures(["a"], [["a"]]) == {}
