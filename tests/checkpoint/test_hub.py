"""Is a Hub id resolved with only the needed files, from the cache first, with a sentence for each failure?

A stand-in on the loopback answers like huggingface.co; each load runs in its own process, because
huggingface_hub reads HF_ENDPOINT when it is imported.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import pytest
from checkpoints import entries, write_shards
from dialocpp.checkpoint.packed.fingerprint import fingerprint_of
from dialocpp.errors import CheckpointError
from small_models import Gpt2, hf_name
from torch_files import CONTAINERS

COMMIT = "0123456789abcdef0123456789abcdef01234567"

_PROGRAM = """
import json, sys, time
from huggingface_hub import constants
time.sleep = lambda _: None  # huggingface_hub waits before it tries again
constants.DOWNLOAD_CHUNK_SIZE = 500  # what is smaller is not kept when a connection breaks
from dialocpp.checkpoint import Source, load_checkpoint
from dialocpp.errors import CheckpointError
try:
    checkpoint = load_checkpoint(Source(**json.loads(sys.argv[1])))
    print(json.dumps({"files": sorted(p.name for p in checkpoint.folder.iterdir()), "name": checkpoint.name}))
except CheckpointError as error:
    print(json.dumps({"error": str(error)}))
"""


UNNEEDED = (
    *(
        "pytorch_model.bin",
        "training_args.bin",
        "optimizer.pt",
        "scheduler.pt",
        "rng_state.pth",
        "tf_model.h5",
    ),
    *("vocab.json", "merges.txt", "README.md", ".gitattributes", "checkpoint-500/pytorch_model.bin"),
)


class Hub(ThreadingHTTPServer):
    """Repos by name, each a folder; `log` holds the files that were asked for.

    Like the real one it sends large files from elsewhere (a redirect to `/cdn/`), and parts of them on request.
    `cuts`: how many bytes of each answer to send before the connection breaks, one number for each time.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.repos: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.log: list[str] = []
        self.ranges: list[str] = []
        self.tokens: set[str | None] = set()
        self.cuts: list[int] = []
        self.status: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = unquote(self.path).lstrip("/")
        self.server.tokens.add(self.headers.get("Authorization"))
        if path.startswith("cdn/"):
            owner, name, filename = path.removeprefix("cdn/").split("/", 2)
            self.server.log.append(f"{self.command} {filename}")
            return self._send_file(self.server.repos[f"{owner}/{name}"] / filename, body)
        if path.startswith("api/"):  # huggingface_hub's own questions
            return self._send(404, {})
        owner, name, _, revision, filename = path.split("/", 4)
        repo = f"{owner}/{name}"
        self.server.log.append(f"{self.command} {filename}")
        file = self.server.repos.get(repo, Path("/nowhere")) / filename
        if filename in self.server.status:
            self._send(self.server.status[filename], {"X-Error-Message": "Something broke"})
        elif repo in self.server.gated:
            self._send(403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to it is restricted."})
        elif repo not in self.server.repos:
            self._send(401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        elif revision not in ("main", COMMIT):
            self._send(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        elif not file.is_file():
            self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        elif file.suffix in (".bin", ".safetensors"):
            linked = {"X-Linked-Etag": etag_of(file), "X-Linked-Size": str(file.stat().st_size)}
            # Another host, as the real one has it: on the same one huggingface_hub would go on asking.
            elsewhere = self.server.url.replace("127.0.0.1", "localhost")
            place = {"Location": f"{elsewhere}/cdn/{repo}/{filename}"}
            self._send(302, {"X-Repo-Commit": COMMIT} | linked | place)
        else:
            self._send_file(file, body, {"ETag": etag_of(file), "X-Repo-Commit": COMMIT})

    def _send_file(self, file: Path, body: bool, headers: dict[str, str] | None = None) -> None:
        """A whole file or the rest of it, broken off where `cuts` says so."""
        content = file.read_bytes()
        wanted = self.headers.get("Range")
        status, headers = 200, dict(headers or {})
        if wanted:
            self.server.ranges.append(wanted)
            first = int(wanted.removeprefix("bytes=").partition("-")[0])
            status, total, content = 206, len(content), content[first:]
            headers["Content-Range"] = f"bytes {first}-{total - 1}/{total}"
        is_cut = body and file.suffix in (".bin", ".safetensors") and bool(self.server.cuts)
        self._send(status, headers, content, body, cut=self.server.cuts.pop(0) if is_cut else None)

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        content: bytes = b"",
        body: bool = False,
        cut: int | None = None,
    ) -> None:
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content[:cut])

    def log_message(self, *_: object) -> None:
        """Stay quiet."""


def etag_of(file: Path) -> str:
    return f'"{hashlib.sha256(file.read_bytes()).hexdigest()}"'


@pytest.fixture
def hub(tiny_folder: Path) -> Iterator[Hub]:
    server = Hub()
    server.repos["someone/tiny"] = tiny_folder
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def load(
    url: str, cache: Path, name: str = "someone/tiny", env: dict[str, str] | None = None, **options: object
) -> dict:
    """The outcome of `load_checkpoint` in a new process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": url, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HOME": str(cache / "home")}
    arguments = json.dumps({"name": name, "cache_dir": str(cache)} | options)
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, arguments],
        env=environment | {"HF_HUB_ETAG_TIMEOUT": "2"} | (env or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_only_what_is_needed_is_downloaded_and_only_once(hub: Hub, tmp_path: Path, tiny_folder: Path) -> None:
    repo = Path(shutil.copytree(tiny_folder, tmp_path / "repo"))
    (repo / "checkpoint-500").mkdir()
    for name in UNNEEDED:
        (repo / name).write_text("not needed")
    hub.repos["someone/tiny"] = repo
    needed = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert load(hub.url, tmp_path) == {"files": needed, "name": "someone/tiny"}
    assert {line.removeprefix("GET ") for line in hub.log if line.startswith("GET")} == set(needed)
    hub.log.clear()
    assert load(hub.url, tmp_path)["files"] == needed
    assert hub.log == []
    assert load("http://127.0.0.1:9", tmp_path)["files"] == needed
    assert load("http://127.0.0.1:9", tmp_path, local_files_only=True)["files"] == needed
    assert load("http://127.0.0.1:9", tmp_path, env={"HF_HUB_OFFLINE": "1"}, revision=COMMIT)["files"] == needed


def test_a_cache_that_lacks_optional_files_is_enough_without_network(hub: Hub, tmp_path: Path) -> None:
    files = load(hub.url, tmp_path)["files"]
    shutil.rmtree(tmp_path / "models--someone--tiny" / ".no_exist")
    assert load("http://127.0.0.1:9", tmp_path) == {"files": files, "name": "someone/tiny"}


def test_shards(hub: Hub, tmp_path: Path, tiny: Gpt2, tiny_folder: Path) -> None:
    repo = write_shards(tmp_path / "repo", tiny.config, entries(tiny))
    shutil.copy(tiny_folder / "tokenizer.json", repo)
    hub.repos["someone/sharded"] = repo
    files = load(hub.url, tmp_path, "someone/sharded")["files"]
    assert {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"} < set(files)


def test_a_shard_outside_the_repo_is_not_asked_for(hub: Hub, tmp_path: Path, tiny: Gpt2) -> None:
    repo = write_shards(tmp_path / "repo", tiny.config, entries(tiny))
    index = {"weight_map": {"wte.weight": "../../evil.safetensors"}}
    (repo / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.repos["someone/evil"] = repo
    assert "plain name of a .safetensors file" in load(hub.url, tmp_path, "someone/evil")["error"]
    assert not any("evil" in line for line in hub.log)


@pytest.fixture
def torch_repo(hub: Hub, tmp_path: Path, tiny: Gpt2, tiny_folder: Path) -> Path:
    """The tiny model as microsoft/DialoGPT-medium lies on the Hub: a torch file and leftovers."""
    repo = Path(shutil.copytree(tiny_folder, tmp_path / "repo"))
    (repo / "model.safetensors").unlink()
    named = {hf_name(name): array for name, array in tiny.tensors.items()}
    (repo / "pytorch_model.bin").write_bytes(CONTAINERS["legacy"](named))
    (repo / "training_args.bin").write_text("not needed")
    hub.repos["microsoft/DialoGPT-medium"] = repo
    return repo


TORCH_FILES = ["config.json", "pytorch_model.bin", "tokenizer.json", "tokenizer_config.json"]


def test_torch_weights_where_there_are_no_others(hub: Hub, tmp_path: Path, torch_repo: Path) -> None:
    found = {"files": TORCH_FILES, "name": "microsoft/DialoGPT-medium"}
    assert load(hub.url, tmp_path, "microsoft/DialoGPT-medium") == found
    assert [line for line in hub.log if line.startswith("GET")] == [f"GET {name}" for name in
        ("config.json", "tokenizer.json", "tokenizer_config.json", "pytorch_model.bin")]  # fmt: skip
    hub.log.clear()
    assert load(hub.url, tmp_path, "microsoft/DialoGPT-medium") == found
    assert hub.log == []


def test_torch_shards(hub: Hub, tmp_path: Path, torch_repo: Path) -> None:
    (torch_repo / "pytorch_model.bin").rename(torch_repo / "pytorch_model-00001-of-00001.bin")
    index = {"weight_map": {"transformer.wte.weight": "pytorch_model-00001-of-00001.bin"}}
    (torch_repo / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    files = load(hub.url, tmp_path, "microsoft/DialoGPT-medium")["files"]
    assert {"pytorch_model.bin.index.json", "pytorch_model-00001-of-00001.bin"} < set(files)
    (torch_repo / "pytorch_model-00001-of-00001.bin").unlink()
    error = load(hub.url, tmp_path / "other", "microsoft/DialoGPT-medium")["error"]
    assert "expected pytorch_model-00001-of-00001.bin in this repo, found none" in error


def test_a_connection_that_breaks_is_resumed(hub: Hub, tmp_path: Path, torch_repo: Path) -> None:
    hub.cuts += [1000, 0, 50_000]
    assert load(hub.url, tmp_path, "microsoft/DialoGPT-medium")["files"] == TORCH_FILES
    assert hub.ranges == ["bytes=1000-", "bytes=1000-", "bytes=51000-"]


def test_a_connection_that_stays_broken(hub: Hub, tmp_path: Path, torch_repo: Path) -> None:
    hub.cuts += [1000] + [0] * 50
    error = load(hub.url, tmp_path, "microsoft/DialoGPT-medium")["error"]
    assert error.startswith("microsoft/DialoGPT-medium at ") and error.endswith("; try again later")
    assert "expected to download it from the Hub, found " in error and "\n" not in error
    hub.cuts.clear()
    assert load(hub.url, tmp_path, "microsoft/DialoGPT-medium")["files"] == TORCH_FILES


def test_a_file_that_is_not_what_the_hub_says(hub: Hub, tmp_path: Path, torch_repo: Path) -> None:
    files = load(hub.url, tmp_path, "microsoft/DialoGPT-medium")["files"]
    (blob,) = (path.resolve() for path in tmp_path.glob("models--*/snapshots/*/pytorch_model.bin"))
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"expected .* with the SHA-256 .*, found .*; delete it"):
        fingerprint_of([blob])
    assert load(hub.url, tmp_path, "microsoft/DialoGPT-medium")["files"] == files  # only hashed to be cached


@pytest.mark.parametrize(("filename", "status"), [("config.json", 500), ("pytorch_model.bin", 503)])
def test_a_hub_that_is_out_of_order(hub: Hub, tmp_path: Path, torch_repo: Path, filename: str, status: int) -> None:
    hub.status[filename] = status
    error = load(hub.url, tmp_path, "microsoft/DialoGPT-medium")["error"]
    assert "microsoft/DialoGPT-medium" in error and str(status) in error and "\n" not in error


def test_the_token_is_sent(hub: Hub, tmp_path: Path) -> None:
    load(hub.url, tmp_path)
    assert hub.tokens == {None}
    load(hub.url, tmp_path / "2", token="hf_given")
    load(hub.url, tmp_path / "3", env={"HF_TOKEN": "hf_environment"})
    assert hub.tokens == {None, "Bearer hf_given", "Bearer hf_environment"}


def test_hf_home_is_where_the_cache_is(hub: Hub, tmp_path: Path) -> None:
    load(hub.url, tmp_path, cache_dir=None)
    assert (tmp_path / "home" / "hub" / "models--someone--tiny").is_dir()


def test_a_repo_without_a_model(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    hub.repos["someone/data"] = tmp_path / "repo"
    error = load(hub.url, tmp_path, "someone/data")["error"]
    assert error == "someone/data: expected config.json in this repo, found none; choose a GPT-2 model's repo"


def test_failures_in_one_sentence(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add("someone/gated")
    expected = {
        (
            "someone/missing",
            None,
        ): "expected 'someone/missing' as a folder here or a repo on the Hub, found neither that you may read",
        (
            "someone/gated",
            None,
        ): "someone/gated: expected a repo open to you, found a gated one; accept its terms",
        ("someone/tiny", "v9"): "someone/tiny: expected a branch, tag or commit 'v9', found none",
    }
    for (name, revision), message in expected.items():
        error = load(hub.url, tmp_path, name, revision=revision)["error"]
        assert error.startswith(message) and "\n" not in error


def test_no_network(tmp_path: Path) -> None:
    error = load("http://127.0.0.1:9", tmp_path)["error"]
    assert error.startswith("expected someone/tiny as a folder here or on the Hub, found no such folder and no conn")
    assert error.endswith("; check the name and the network") and "\n" not in error
    error = load("http://127.0.0.1:9", tmp_path, env={"HF_HUB_OFFLINE": "1"})["error"]
    assert "found no such folder and no config.json in the cache" in error
