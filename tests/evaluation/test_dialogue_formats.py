"""Is each form of dialogues read as what it says, and is each bad line named?"""

import json
import lzma
from pathlib import Path

import pytest
from dialocpp.evaluation.dialogue_formats import BadLines, Dialogue, read_dialogues

TWO = [("Hi there!", "Hello."), ("How are you?", "Fine, thanks.", "Good.")]
FORMS = {
    "a.jsonl": "".join(json.dumps({"turns": turns}) + "\n" for turns in TWO),
    "messages.jsonl": "".join(
        json.dumps({"messages": [{"role": "user", "content": turn} for turn in turns]}) + "\n\n" for turns in TWO
    ),
    "a.txt": "\n\n\n".join("\n".join(turns) for turns in TWO),
    "windows.txt": "\ufeff" + "\r\n\r\n".join("\r\n".join(turns) for turns in TWO) + "\r\n",
    "a.csv": 'Speaker,Text\nA,Hi\nA,there!\nB,Hello.\n\nA,How are you?\nB,"Fine, thanks."\nA,Good.\n',
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_forms(tmp_path: Path, name: str, packed: bool) -> None:
    path = tmp_path / (name + ".xz" * packed)
    data = FORMS[name].encode()
    path.write_bytes(lzma.compress(data) if packed else data)
    assert list(read_dialogues(path)) == [Dialogue(turns) for turns in TWO]


def test_dialogpts_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("0.0 Hi there! EOS 1.0 Hello.\t1.0 Well?\n0.0 How are you?\t1.0 Fine.\n")
    assert list(read_dialogues(path)) == [
        Dialogue(("Hi there!", "Hello.", "Well?"), (False, True, True)),
        Dialogue(("How are you?", "Fine."), (False, True)),
    ]


BAD = {
    "a.jsonl": ['{"turns": ["only one"]}', '{"turns": ["a", ""]}', '{"turns": "ab"}', "[1]", "{", "[" * 100_000, "5"],
    "a.tsv": ["no weight\t1.0 x", "0.5 a\t1.0 b", "0.0\t1.0 b", "1.0 alone"],
    "a.csv": ["a,b,c", "one"],
}


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in BAD.items() for line in lines])
def test_bad_lines_are_named_and_skipped_or_fatal(tmp_path: Path, name: str, line: str) -> None:
    path = tmp_path / name
    good = {
        "a.jsonl": '{"turns": ["a", "b"]}', "a.tsv": "0.0 a\t1.0 b", "a.csv": "x,a\ny,b",
    }[name]  # fmt: skip
    path.write_text(f"{good}\n\n{line}\n\n{good}\n")
    bad = BadLines()
    assert [dialogue.turns for dialogue in read_dialogues(path, bad)] == [("a", "b")] * 2
    assert bad.count == 1
    assert f"{path}, line " in bad.first[0]
    assert len(bad.first[0]) < 400
    with pytest.raises(ValueError, match=r"line \d+: expected"):
        list(read_dialogues(path))


def test_what_is_no_file_of_dialogues(tmp_path: Path) -> None:
    path = tmp_path / "a.pdf"
    path.write_text("x")
    with pytest.raises(ValueError, match=r"expected a file of dialogues \(.jsonl"):
        list(read_dialogues(path))
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="expected text in UTF-8"):
        list(read_dialogues(path))
