"""Are files written whole, in the right place, by one at a time, and in a cache that nobody else could have filled?"""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from dialocpp.checkpoint.own_files import user_cache
from dialocpp.checkpoint.own_files.file_lock import locked
from dialocpp.checkpoint.own_files.held_folder import HeldFolder
from dialocpp.checkpoint.own_files.user_cache import cache_root, check_own, own_folder, read_own
from dialocpp.checkpoint.own_files.whole_file import remove_leftovers, replacing, replacing_in, temporaries

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Windows has no owners and modes like these")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DIALOCPP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# Whole files


def test_a_new_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    with replacing(tmp_path / "new") as file:
        file.write(b"content")
    (tmp_path / "plain").touch()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, OSError, GeneratorExit])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, kind: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(kind), replacing(path) as file:
        file.write(b"new")
        raise kind
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"mine")
    for target in (victim, tmp_path / "nowhere", tmp_path, "/dev/full"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        with replacing(link) as file:
            file.write(b"new")
        assert link.read_bytes() == b"new" and not link.is_symlink()
    assert victim.read_bytes() == b"mine" and not (tmp_path / "nowhere").exists()


def test_names_of_any_length(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    with replacing(path) as file:
        file.write(b"x")
    assert path.read_bytes() == b"x"


@posix
def test_what_a_killed_writer_left_goes_with_the_next_one(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from dialocpp.checkpoint.own_files.whole_file import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half')\n    file.flush()\n    print(flush=True)\n    sys.stdin.read()\n"
    )
    path, other = tmp_path / "file", tmp_path / "other"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(name)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in (path, path, other)
    ]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == "\n"
    with HeldFolder.at(tmp_path) as folder:
        for child in (children[0], children[2]):
            child.send_signal(signal.SIGKILL)
            child.communicate()
        assert len(temporaries(folder)) == 3
        remove_leftovers(folder, "file")
        assert len(temporaries(folder)) == 2, "the one that lives, and the other name's"
        children[1].communicate("")
        assert path.read_bytes() == b"half"
        with replacing(other):
            pass
        assert temporaries(folder) == []


def test_names_that_only_look_like_leftovers_stay(tmp_path: Path) -> None:
    names = ["file.tmp", ".file.tmp", ".dialocpp-00000000-0000000000000000.tmp", ".dialocpp-x.tmp", "dialocpp.tmp"]
    for name in names:
        (tmp_path / name).touch()
    with replacing(tmp_path / "file"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*names, "file"}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "/etc/passwd"])
def test_a_held_folder_takes_plain_names_only(tmp_path: Path, name: str) -> None:
    with HeldFolder.at(tmp_path) as folder, pytest.raises(ValueError, match="plain name"), replacing_in(folder, name):
        pass


@posix
def test_a_held_folder_stays_the_same_one(tmp_path: Path) -> None:
    real, trap = tmp_path / "real", tmp_path / "trap"
    real.mkdir()
    trap.mkdir()
    with HeldFolder.without_link(real) as folder, replacing_in(folder, "file") as file:
        real.rename(tmp_path / "moved")
        (tmp_path / "real").symlink_to(trap)
        file.write(b"x")
    assert [path.name for path in (tmp_path / "moved").iterdir()] == ["file"] and not list(trap.iterdir())


# Locks


def test_a_lock_is_free_again(tmp_path: Path) -> None:
    with HeldFolder.at(tmp_path) as folder:
        for _ in range(2):
            with locked(folder, "lock", 0), pytest.raises(TimeoutError, match="held"), locked(folder, "lock", 0):
                pass


def test_a_holder_may_remove_its_lock(tmp_path: Path) -> None:
    with HeldFolder.at(tmp_path) as folder:
        with locked(folder, "lock", 0):
            folder.remove("lock")
        with locked(folder, "lock", 0), pytest.raises(TimeoutError), locked(folder, "lock", 0):
            pass


@posix
def test_a_lock_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with HeldFolder.at(tmp_path) as folder, pytest.raises(OSError), locked(folder, "lock", 0):
        pass
    assert not (tmp_path / "elsewhere").exists()


# The user's cache


def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DIALOCPP_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert cache_root() == tmp_path / "a"
    monkeypatch.setenv("DIALOCPP_CACHE", "")
    assert cache_root() == tmp_path / "b" / "dialocpp"
    for relative in ("", "here"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert cache_root() == tmp_path / "c" / ".cache" / "dialocpp"


@posix
def test_it_is_made_for_its_user_alone(cache: Path) -> None:
    before = os.umask(0)
    try:
        with own_folder("int8") as folder, replacing_in(folder, "file", 0o600):
            pass
    finally:
        os.umask(before)
    for path, mode in ((cache, 0o700), (cache / "int8", 0o700), (cache / "int8" / "file", 0o600)):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def _link(path: Path) -> None:
    target = path.with_name("target")
    target.mkdir(0o700)
    path.symlink_to(target)


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _file(path: Path) -> None:
    path.touch()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def _open_to_the_group(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


PLANTED = [_link, _dangling, _file, _fifo, _open_to_all, _open_to_the_group]


@posix
@pytest.mark.parametrize("plant", PLANTED)
def test_what_another_could_have_put_there_is_refused(cache: Path, tmp_path: Path, plant) -> None:
    cache.mkdir()
    plant(cache / "int8")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError), own_folder("int8"):
        pass
    assert sorted(tmp_path.rglob("*")) == before


@posix
@pytest.mark.parametrize("plant", [_link, _dangling, _file, _fifo])
def test_the_cache_itself_is_no_link(cache: Path, tmp_path: Path, plant) -> None:
    plant(cache)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError, match=r"DIALOCPP_CACHE"), own_folder("int8"):
        pass
    assert sorted(tmp_path.rglob("*")) == before


@posix
def test_another_user_s_folder_and_file_are_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with own_folder("int8") as folder:
        with replacing_in(folder, "file", 0o600) as file:
            file.write(b"x")
        assert read_own(folder, "file", 1) == b"x"
        with pytest.raises(OSError, match="at most 0 bytes"):
            read_own(folder, "file", 0)
        (cache / "int8" / "file").chmod(0o622)
        with pytest.raises(OSError, match="622"):
            read_own(folder, "file", 1)
        (cache / "int8" / "link").symlink_to(cache / "int8" / "file")
        with pytest.raises(OSError):
            read_own(folder, "link", 1)
        with pytest.raises(OSError, match="something else"):
            check_own(folder.status("link"), cache / "int8" / "link")
        me = os.geteuid()
        monkeypatch.setattr(user_cache.os, "geteuid", lambda: me + 1)
        with pytest.raises(OSError, match=f"found the owner {me}"):
            read_own(folder, "file", 1)
    with pytest.raises(OSError, match=f"found the owner {me}"), own_folder("int8"):
        pass
