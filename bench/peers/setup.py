"""How does one get the peers? Environments, llama.cpp, and the same random weights in everybody's form.

    python bench/peers/setup.py --cache build/peers --shape small

What is there already is not made again. A peer that cannot be set up is named at the end; the others go on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import venv
from collections.abc import Callable
from pathlib import Path

import click
from dialocpp.benchmark import SHAPES, write_random_model
from peers import ENVIRONMENTS, LLAMA_BUILDS, LLAMA_SDIST, PEERS, Cache, Peer
from processes import PeerError, environment, interpreter, script

GPT2_TOKENIZER = Path(__file__).parents[3] / "shared" / "data" / "gpt2-tokenizer"


@click.command()
@click.option(
    "--cache", "root", type=click.Path(path_type=Path), default=Path("build/peers"), show_default=True
)
@click.option("--shape", "shapes", type=click.Choice(list(SHAPES)), multiple=True, default=["small"])
@click.option(
    "--llama-build", "builds", type=click.Choice(list(LLAMA_BUILDS)), multiple=True, default=["native"]
)
@click.option("--jobs", type=click.IntRange(1), default=2, show_default=True, help="Compilers at once.")
@click.option("--only", multiple=True, help="Engines to set up; default: all.")
def main(
    root: Path, shapes: tuple[str, ...], builds: tuple[str, ...], jobs: int, only: tuple[str, ...]
) -> None:
    """Set up the peers under a cache folder."""
    cache = Cache(root.resolve())
    failures: list[str] = []
    for name, requirements in ENVIRONMENTS.items():
        if not only or name in only:
            _attempt(failures, f"environment {name}", lambda n=name, r=requirements: install(cache, n, r))
    if not only or "llama_cpp" in only:
        _attempt(failures, "llama.cpp's source", lambda: unpack_llama(cache))
        for build in builds:
            _attempt(failures, f"llama.cpp {build}", lambda b=build: build_llama(cache, b, jobs))
    for shape in shapes:
        if not (cache.model(shape) / "model.safetensors").is_file():
            click.echo(f"random weights of shape {shape}")
            write_random_model(
                cache.model(shape),
                shape,
                tokenizer_folder=GPT2_TOKENIZER if GPT2_TOKENIZER.is_dir() else None,
            )
        for peer in PEERS:
            if not only or peer.engine in only:
                _attempt(failures, f"{peer.name}, {shape}", lambda p=peer, s=shape: convert(cache, p, s))
    click.echo("Missing: " + "; ".join(failures) if failures else "All peers are set up.")


def install(cache: Cache, name: str, requirements: list[str]) -> None:
    """A virtual environment with exactly these requirements; a stamp says that it is complete."""
    python = cache.python(name)
    stamp = python.parents[1] / "requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    if not python.exists():
        venv.create(python.parents[1], with_pip=True)
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirements], check=True)
    stamp.write_text(wanted)


def unpack_llama(cache: Cache) -> None:
    """llama-cpp-python's source distribution, which carries llama.cpp, its programs and its converter."""
    if cache.llama_source.is_dir():
        return
    target = cache.llama_source.parents[1]
    downloads = target.with_name("download")
    command = ["-m", "pip", "download", "--no-binary", ":all:", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [str(cache.python("llama_cpp")), *command, "--dest", str(downloads), LLAMA_SDIST],
        check=True,
        env=_with_tools(cache),
    )
    (archive,) = downloads.glob("*.tar.gz")
    unpacked = target.with_name("unpacked")
    with tarfile.open(archive) as tar:
        tar.extractall(unpacked, filter="data")
    (folder,) = unpacked.iterdir()
    folder.rename(target)
    unpacked.rmdir()


def build_llama(cache: Cache, name: str, jobs: int) -> None:
    """The two programs that measure, with one choice of instruction sets."""
    build = cache.llama_build(name)
    programs = ["llama-bench", "llama-batched-bench"]
    if all((build / "bin" / program).is_file() for program in programs):
        return
    options = [
        "CMAKE_BUILD_TYPE=Release",
        "LLAMA_BUILD_TESTS=OFF",
        "LLAMA_BUILD_SERVER=OFF",
        "LLAMA_CURL=OFF",
    ]
    configure = ["cmake", "-G", "Ninja", "-S", str(cache.llama_source), "-B", str(build), *LLAMA_BUILDS[name]]
    tools = _with_tools(cache)
    subprocess.run([*configure, *(f"-D{option}" for option in options)], check=True, env=tools)
    subprocess.run(
        ["nice", "-n", "10", "cmake", "--build", str(build), "-j", str(jobs), "-t", *programs],
        check=True,
        env=tools,
    )


def convert(cache: Cache, peer: Peer, shape: str) -> None:
    """One peer's copy of the weights, made under another name first so that half a copy is never measured."""
    out = cache.prepared(shape, peer)
    if out.exists():
        return
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [str(interpreter(cache, peer)), script(peer), "prepare", "--model", str(cache.model(shape))]
    variables = environment(cache, peer, threads=os.cpu_count() or 1, isa=None)
    subprocess.run([*command, "--out", str(partial), "--variant", peer.variant], check=True, env=variables)
    partial.rename(out)


def _with_tools(cache: Cache) -> dict[str, str]:
    """cmake and ninja of the environment first."""
    tools = cache.python("llama_cpp").parent
    return os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}


def _attempt(failures: list[str], what: str, action: Callable[[], None]) -> None:
    click.echo(what)
    try:
        action()
    except subprocess.CalledProcessError as error:
        failures.append(f"{what} (ended with {error.returncode}, see above)")
    except (PeerError, OSError, ValueError) as error:
        failures.append(f"{what} ({error})")


if __name__ == "__main__":
    main()
