"""Which files of a Hub repo does a checkpoint need, and where are they in the local cache?

The cache is asked first, file by file, so that a model that has been used once never calls home again. All
files come from one commit: that of config.json.
"""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
from huggingface_hub import constants, errors

from dialocpp.errors import CheckpointError

from .files import (
    CONFIG,
    GENERATION_CONFIG,
    PACKED,
    SINGLE,
    TOKENIZER,
    TOKENIZER_SETTINGS,
    TOKENIZERS,
    WEIGHTS,
    is_index,
    no_weights,
    shard_names,
)
from .hub_entry import commit_of
from .model_source import Source


class _Repo:
    """One repo at one revision; `fetch` gives a file's path, or None where the repo has no such file."""

    def __init__(self, name: str, source: Source) -> None:
        self._name = name
        self._revision = source.revision
        self._cache_dir = None if source.cache_dir is None else Path(source.cache_dir)
        self._token = source.token
        self._inside = source.inside
        entry = Path(self._cache_dir or constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
        self._cached_revision = commit_of(entry, source.revision) or source.revision
        self._offline = source.local_files_only or constants.HF_HUB_OFFLINE
        self._unreachable: Exception | None = None
        self._reached = False

    def fetch(self, filename: str) -> Path | None:
        """From the cache, else from the Hub; the name is that in the subfolder."""
        filename = "/".join((*self._inside, filename))
        try:
            cached = huggingface_hub.try_to_load_from_cache(
                self._name, filename, cache_dir=self._cache_dir, revision=self._cached_revision
            )
        except errors.HFValidationError as error:
            raise self._explained(error) from error
        if isinstance(cached, str):
            return Path(cached)
        known_absent = cached is not None
        if known_absent or self._offline or not self._reachable(filename):
            return None
        return self._download(filename)

    def pin(self, file: Path) -> None:
        """Take all further files from this one's commit."""
        self._revision = self._cached_revision = file.parents[len(self._inside)].name

    def missing(self, filename: str) -> CheckpointError:
        """The error for a file that the checkpoint cannot do without."""
        where = self._where()
        if self._offline:
            return CheckpointError(
                f"expected {where} as a folder here or whole in the local cache, found no such folder and no "
                f"{filename} in the cache (the Hub was not asked); download it once with the network allowed"
            )
        if self._unreachable:
            return CheckpointError(
                f"expected {where} as a folder here or on the Hub, found no such folder and no connection to the Hub "
                f"({_line(self._unreachable)}); check the name and the network"
            )
        return CheckpointError(f"{where}: expected {filename} in this repo, found none; choose a GPT-2 model's repo")

    def missing_weights(self) -> CheckpointError:
        """The error for a repo that has none of the files that could hold weights."""
        return self.missing(SINGLE) if self._offline or self._unreachable else no_weights(self._name)

    def _reachable(self, filename: str) -> bool:
        """Asked once, without patience: hf_hub_download would retry for a quarter of a minute."""
        if not self._reached and self._unreachable is None:
            url = huggingface_hub.hf_hub_url(self._name, filename, revision=self._revision)
            try:
                huggingface_hub.get_hf_file_metadata(url, token=self._token)
            except (errors.HfHubHTTPError, errors.EntryNotFoundError):
                pass  # an answer; hf_hub_download will get it again and remember it
            except Exception as error:  # httpx's or requests', depending on huggingface_hub's version
                self._unreachable = error
        return self._unreachable is None

    def _where(self) -> str:
        return self._name if self._revision is None else f"{self._name} at {self._revision}"

    def _download(self, filename: str) -> Path | None:
        try:
            path = huggingface_hub.hf_hub_download(
                self._name, filename, revision=self._revision, cache_dir=self._cache_dir, token=self._token
            )
        except errors.LocalEntryNotFoundError as error:
            self._lost(error)
            return None
        except errors.EntryNotFoundError:
            self._reached = True
            return None
        except Exception as error:  # the library's own, httpx's or requests', depending on its version
            raise self._explained(error) from error
        self._reached = True
        return Path(path)

    def _lost(self, error: Exception) -> None:
        """A cache that lacks only optional files is enough; a download that broke off is not."""
        cause = error.__cause__ or error
        if self._reached:
            raise CheckpointError(
                f"{self._where()}: expected the Hub to answer until all files were there, "
                f"found the connection lost ({_line(cause)}); try again"
            ) from error
        self._unreachable = cause if isinstance(cause, Exception) else error

    def _explained(self, error: Exception) -> CheckpointError:
        where = self._where()
        if isinstance(error, errors.GatedRepoError):
            return CheckpointError(
                f"{where}: expected a repo open to you, found a gated one; accept its terms and pass token"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return CheckpointError(
                f"{self._name}: expected a branch, tag or commit {self._revision!r}, found none; check it"
            )
        if isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)):
            return CheckpointError(
                f"expected {self._name!r} as a folder here or a repo on the Hub, found neither that you may read; "
                "check the name, or pass token if it is private"
            )
        return CheckpointError(f"{where}: expected to download it from the Hub, found {_line(error)}; try again later")


def _line(error: BaseException) -> str:
    """The first line of an error's message: it becomes part of a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def download(name: str, source: Source) -> Path:
    """The cached snapshot folder of a Hub repo with every file that a checkpoint needs, downloaded or not."""
    repo = _Repo(name, source)
    config = repo.fetch(CONFIG)
    if config is None:
        raise repo.missing(CONFIG)
    repo.pin(config)
    repo.fetch(GENERATION_CONFIG)
    _fetch_tokenizer(repo)
    _fetch_weights(repo)
    return config.parent


def download_tokenizer(name: str, source: Source) -> Path:
    """The same with the tokenizer's files alone."""
    repo = _Repo(name, source)
    found = _fetch_tokenizer(repo)
    if found is None:
        raise repo.missing(TOKENIZER)
    return found.parent


def _fetch_tokenizer(repo: _Repo) -> Path | None:
    """One of the tokenizer's files, or None if the repo has none."""
    first = None
    for names in TOKENIZERS:
        found = [path for path in map(repo.fetch, names) if path]
        if found:
            first = first or found[0]
            repo.pin(found[0])
        if len(found) == len(names):
            break
    for name in TOKENIZER_SETTINGS:
        repo.fetch(name)
    return first


def _fetch_weights(repo: _Repo) -> None:
    """The first of the known files that the repo has, with its shards; nothing else is ever downloaded."""
    if repo.fetch(PACKED):
        return
    found = next((path for path in map(repo.fetch, WEIGHTS) if path), None)
    if found is None:
        raise repo.missing_weights()
    for shard in shard_names(found) if is_index(found.name) else ():
        if repo.fetch(shard) is None:
            raise repo.missing(shard)
