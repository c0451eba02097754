"""Is the model found where users say it is: in the Hub's cache, in a subfolder, with a tokenizer from elsewhere?"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import ChatSession, Model
from dialocpp.checkpoint import Source, export_checkpoint, load_checkpoint
from dialocpp.checkpoint.foreign_arguments import _INSTEAD
from dialocpp.errors import CheckpointError

COMMITS = ["0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98"]


@pytest.fixture
def entry(tmp_path: Path, tiny_folder: Path) -> Path:
    """The Hub's cache with one model in it, as huggingface_hub lays it out."""
    entry = tmp_path / "cache" / "models--me--bot"
    shutil.copytree(tiny_folder, entry / "snapshots" / COMMITS[0])
    (entry / "refs").mkdir()
    (entry / "refs" / "main").write_text(COMMITS[0])
    return entry


# refs


@pytest.mark.parametrize("after", ["", "\n", "\r\n", " \n\n", "\t"])
@pytest.mark.parametrize("revision", [None, "main", "v1.0", "pr/3"])
def test_a_ref_with_spaces_around_it(entry: Path, after: str, revision: str | None) -> None:
    ref = entry / "refs" / (revision or "main")
    ref.parent.mkdir(exist_ok=True)
    ref.write_text(COMMITS[0] + after)
    source = Source("me/bot", revision=revision, cache_dir=entry.parent, local_files_only=True)
    assert load_checkpoint(source).folder == entry / "snapshots" / COMMITS[0]


@pytest.mark.parametrize("content", ["", "../../elsewhere", "/etc", "..", "\n", "a/b", "x" * 5000, "\0"])
def test_a_ref_that_is_no_commit(entry: Path, content: str) -> None:
    (entry / "refs" / "main").write_text(content)
    with pytest.raises(CheckpointError):
        load_checkpoint(Source("me/bot", cache_dir=entry.parent, local_files_only=True))


# The cache's folders as paths

WAYS: dict[str, Callable[[Path], Path]] = {
    "the entry": lambda entry: entry,
    "its snapshots": lambda entry: entry / "snapshots",
    "a snapshot": lambda entry: entry / "snapshots" / COMMITS[0],
    "with a slash": lambda entry: Path(f"{entry}/"),
    "another name": lambda entry: entry.rename(entry.with_name("copied from another machine")),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
@pytest.mark.parametrize("kind", [str, Path])
def test_the_caches_own_folders(entry: Path, way: Callable[[Path], Path], kind: Callable[[Path], Any]) -> None:
    assert load_checkpoint(kind(way(entry))).folder.name == COMMITS[0]


def test_several_snapshots(entry: Path) -> None:
    shutil.copytree(entry / "snapshots" / COMMITS[0], entry / "snapshots" / COMMITS[1])
    assert load_checkpoint(entry).folder.name == COMMITS[0]
    assert load_checkpoint(Source(entry, revision=COMMITS[1])).folder.name == COMMITS[1]
    (entry / "refs" / "main").unlink()
    with pytest.raises(CheckpointError, match=f"expected one snapshot .*, found {COMMITS[0]}, {COMMITS[1]}; give the"):
        load_checkpoint(entry)
    shutil.rmtree(entry / "snapshots" / COMMITS[1])
    assert load_checkpoint(entry / "snapshots").folder.name == COMMITS[0]
    shutil.rmtree(entry / "snapshots" / COMMITS[0])
    with pytest.raises(CheckpointError, match=r"expected one snapshot .*, found none; give the"):
        load_checkpoint(entry)


# Folders that shadow a Hub id


@pytest.mark.parametrize("inside", [[], [".git"], [".cache", ".DS_Store"]])
@pytest.mark.parametrize("name", ["me/bot", "me"])
def test_an_empty_folder_does_not_shadow_a_hub_id(
    entry: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: list[str], name: str
) -> None:
    entry.rename(entry.with_name(f"models--{name.replace('/', '--')}"))
    (tmp_path / "here" / name).mkdir(parents=True)
    for hidden in inside:
        (tmp_path / "here" / name / hidden).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    source = Source(name, cache_dir=entry.parent, local_files_only=True)
    assert load_checkpoint(source).folder.name == COMMITS[0]
    for path in (Path(name), f"./{name}"):  # these can only mean the folder
        with pytest.raises(CheckpointError, match=r"expected a readable file .*config\.json, found none"):
            load_checkpoint(path)
    (tmp_path / "here" / name / "notes.txt").touch()
    with pytest.raises(CheckpointError, match=r"expected a readable file .*config\.json, found none"):
        load_checkpoint(source)


# Subfolders


@pytest.mark.parametrize("subfolder", ["checkpoint-500", "a/b/c", "a/", "./x"])
def test_subfolders(entry: Path, tmp_path: Path, tiny_folder: Path, subfolder: str) -> None:
    expected = Model.from_pretrained(tiny_folder, dtype="float32").logits([1, 2])
    repo = tmp_path / "repo"
    shutil.copytree(tiny_folder, repo / subfolder)
    snapshot = entry / "snapshots" / COMMITS[0]
    for file in snapshot.iterdir():
        file.unlink()
    shutil.copytree(tiny_folder, snapshot / subfolder)
    for name in (repo, entry, "me/bot"):
        model = Model.from_pretrained(
            name, subfolder=subfolder, cache_dir=entry.parent, local_files_only=True, dtype="float32"
        )
        np.testing.assert_array_equal(model.logits([1, 2]), expected)
    with pytest.raises(CheckpointError, match=r"expected the subfolder .*nowhere, found none"):
        Model.from_pretrained(repo, subfolder="nowhere")


@pytest.mark.parametrize("subfolder", ["..", "../other", "a/../../b", "/etc", "a\\b", "a\0"])
def test_a_subfolder_outside_of_the_model(tiny_folder: Path, subfolder: str) -> None:
    with pytest.raises(ValueError, match="expected subfolder to be a path inside of the model's folder, found"):
        Model.from_pretrained(tiny_folder, subfolder=subfolder)


# A tokenizer from elsewhere


@pytest.mark.parametrize("kind", ["folder", "text", "entry", "hub"])
def test_a_tokenizer_from_elsewhere(tmp_path: Path, entry: Path, tiny_folder: Path, kind: str) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_folder / name, weights)
    with pytest.raises(CheckpointError, match="found no"):
        Model.from_pretrained(weights)
    for name in ("config.json", "model.safetensors"):  # a tokenizer needs neither
        (entry / "snapshots" / COMMITS[0] / name).unlink()
    given = {"folder": tiny_folder, "text": str(tiny_folder), "entry": entry, "hub": "me/bot"}[kind]
    chat = ChatSession.from_pretrained(weights, tokenizer=given, cache_dir=entry.parent, local_files_only=True, seed=1)
    own = ChatSession.from_pretrained(tiny_folder, seed=1)
    assert chat.reply("hello there").text == own.reply("hello there").text


def test_the_chat_template_is_the_tokenizers(tmp_path: Path, tiny_folder: Path) -> None:
    tokenizer = tmp_path / "tokenizer"
    shutil.copytree(tiny_folder, tokenizer)
    (tokenizer / "chat_template.jinja").write_text("{% for m in messages %}[{{ m.content }}]{% endfor %}")
    assert ChatSession.from_pretrained(tiny_folder, tokenizer=tokenizer).chat_format == "template"
    assert ChatSession.from_pretrained(tiny_folder).chat_format != "template"


def test_a_tokenizer_that_is_not_there(tiny_folder: Path, tmp_path: Path) -> None:
    for name in (tmp_path / "nowhere", "a/b/c", ""):
        with pytest.raises(CheckpointError):
            Model.from_pretrained(tiny_folder, tokenizer=name)
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json in the cache"):
        Model.from_pretrained(tiny_folder, tokenizer="me/bot", cache_dir=tmp_path, local_files_only=True)


# Arguments of other libraries


@pytest.mark.parametrize("name", sorted(_INSTEAD))
def test_each_argument_of_another_library_has_its_answer(tiny_folder: Path, name: str) -> None:
    for load in (Model.from_pretrained, ChatSession.from_pretrained):
        with pytest.raises(TypeError, match=rf"expected arguments of loading .*, found {name}; \w+") as caught:
            load(tiny_folder, **{name: None})
        assert str(caught.value).endswith(_INSTEAD[name])


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("dtyp", "did you mean dtype?"),
        ("local_file_only", "did you mean local_files_only?"),
        ("tokeniser", "did you mean tokenizer?"),
        ("revison", "did you mean revision?"),
        ("zzz", "leave it out"),
    ],
)
def test_a_misspelt_argument(tiny_folder: Path, name: str, advice: str) -> None:
    with pytest.raises(TypeError, match=rf"found {name}; {advice.replace('?', '[?]')}$"):
        Model.from_pretrained(tiny_folder, **{name: None})


# A full disk

_LIMITED = """
import resource, sys
from dialocpp.checkpoint import export_checkpoint
from dialocpp.errors import CheckpointError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
try:
    export_checkpoint(sys.argv[1], sys.argv[2])
except CheckpointError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the size of files is limited by POSIX's setrlimit")
@pytest.mark.parametrize("room", [0, 100, 5_000, 30_000])
@pytest.mark.parametrize("there", [False, True])
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, tiny_folder: Path, room: int, there: bool) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
    program = [sys.executable, "-c", _LIMITED, str(tiny_folder), str(out), str(room)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert f"expected to write the model to {out}, found that it cannot be written (" in done.stdout
    assert "; the disk at /" in done.stdout and "MiB free); make room there, or choose another folder" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["out"] * there
    assert not there or [path.name for path in out.iterdir()] == ["notes.txt"]


def test_a_disk_that_fills_at_the_last_file(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_checkpoint(tiny_folder, tmp_path / "fine")
    last = sorted(path.name for path in (tmp_path / "fine").iterdir())

    def full(old: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dialocpp.checkpoint.export._copy", full)
    with pytest.raises(CheckpointError, match=r"cannot be written \(No space left on device; the disk at /"):
        export_checkpoint(tiny_folder, tmp_path / "full")
    assert not (tmp_path / "full").exists() and last
