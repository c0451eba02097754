"""Does every file know only the layers below it? And is the package as light and as portable as it promises?

The rules of direction stand in `rooms.py` with the table of rooms, the others here. Each is a function from files to
violations, and is held against the repository and against planted mistakes.
"""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from rooms import (
    ALONE,
    CORE_LAYERS,
    CORE_ORDER,
    CORE_PLANNED,
    LEVEL,
    LIBRARIES,
    PACKAGE_ORDER,
    ROOMS,
    ROOT,
    Files,
    circles,
    core_files,
    forbidden_imports,
    grounds,
    imported_modules,
    included_files,
    libraries_out_of_place,
    package_files,
    read,
    room_of,
    unknown_folders,
    upward_imports,
    upward_includes,
)

# What a chat needs none of: the peers of the tests, the terminal's packages, and the network.
HEAVY = ["torch", "transformers", "rich", "click", "huggingface_hub"]


def repository_files() -> dict[str, str]:
    folders = ("src", "python", "tests", "bench", "examples", "docs", ".ci")
    suffixes = (
        "h",
        "cpp",
        "inl",
        "cu",
        "py",
        "pyi",
        "md",
        "toml",
        "json",
        "jsonl",
        "txt",
        "html",
        "css",
        "js",
        "sh",
    )
    inside = [f"{folder}/**/*.{suffix}" for folder in folders for suffix in suffixes]
    return read(ROOT, *inside, ".ci/*", "*.md", "*.txt", "*.toml")


def cuda_switches(files: Files) -> Iterator[str]:
    """CMake chooses between cuda_backend.cu and no_cuda.cpp; the preprocessor never does."""
    for path, text in files.items():
        for line in re.findall(r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b.*$", text, re.MULTILINE):
            if re.search(r"cuda|nvcc", line, re.IGNORECASE):
                yield f"{path}: {line.strip()}"


def prints_and_exits(files: Files) -> Iterator[str]:
    """A library neither prints nor ends its host's process."""
    forbidden = (
        r"\bstd::(?:cout|cerr|clog)\b|\b(?:f?printf|f?puts|putchar|abort|_?exit|quick_exit|terminate)\s*\("
    )
    for path, text in files.items():
        for match in re.finditer(forbidden, without_comments_and_strings(text)):
            yield f"{path}: {match.group()}"


def without_comments_and_strings(code: str) -> str:
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', " ", code, flags=re.DOTALL)


def machine_paths(files: Files) -> Iterator[str]:
    """No absolute path of some developer's or CI's machine."""
    for path, text in files.items():
        for match in re.finditer(r"(?<![\w.~/-])/(?:work|root|home|Users)/[\w.-]*", text):
            yield f"{path}: {match.group()}"


CORE_RULES = [*CORE_ORDER, cuda_switches, prints_and_exits]


@pytest.mark.parametrize("rule", CORE_RULES)
def test_the_core_keeps_its_layers(rule) -> None:
    files = core_files()
    assert {path.split("/")[0] for path in files} >= CORE_LAYERS.keys() - CORE_PLANNED, "src/ was not read"
    assert list(rule(files)) == []


def test_includes_were_seen_between_the_layers() -> None:
    crossings = {
        (path.split("/")[0], target.split("/")[0])
        for path, text in core_files().items()
        for target in included_files(text)
    }
    assert {("kernels", "base"), ("cpu", "kernels"), ("cpu", "model"), ("bindings", "engine")} <= crossings


@pytest.mark.parametrize("rule", PACKAGE_ORDER)
def test_the_package_keeps_its_order(rule) -> None:
    files = package_files()
    assert {room_of(path) for path in files} >= LEVEL.keys() - {"_core", "server", "training"}
    assert files.keys() >= ALONE
    found = set(imported_modules("checkpoint/config.py", files["checkpoint/config.py"]))
    assert {"_core", "errors.CheckpointError"} <= found
    assert list(rule(files)) == []


def test_no_file_names_a_machine() -> None:
    files = repository_files()
    assert {
        "pyproject.toml",
        "src/kernels/kernels.h",
        "python/dialocpp/errors.py",
        "tests/conftest.py",
    } <= files.keys()
    assert list(machine_paths(files)) == []


FINE = {
    "base/error.h": "",
    "kernels/kernels.h": '#include "base/error.h"\n#if defined(__clang__)\n#endif\n',
    "model/config.h": '#include <vector>\n#include "base/error.h"\n// exit( and "std::cout" in words\n',
    "engine/engine.cpp": '#include "kernels/kernels.h"\nint n = std::snprintf(text, 8, "printf(%d)", 1);\n',
}

CORE_MISTAKES = {
    "base includes kernels": (upward_includes, {"base/a.h": '#include "kernels/kernels.h"'}),
    "kernels include model": (upward_includes, {"kernels/a.h": '#include "model/config.h"'}),
    "model includes kernels": (upward_includes, {"model/a.h": '  #  include "kernels/kernels.h"'}),
    "cpu includes engine": (upward_includes, {"cpu/a.h": '#include "engine/engine.cpp"'}),
    "by way of dots": (upward_includes, {"base/a.h": '#include "../engine/engine.cpp"'}),
    "a folder of its own": (unknown_folders, {"utils/a.h": ""}),
    "a file of its own": (unknown_folders, {"all.h": ""}),
    "ifdef": (cuda_switches, {"cpu/a.cpp": "#ifdef DIALOCPP_CUDA\n#endif"}),
    "if defined": (cuda_switches, {"engine/a.cpp": "  # if defined(__CUDACC__)\n#endif"}),
    "cout": (prints_and_exits, {"cpu/a.cpp": "std::cout << 1;"}),
    "printf": (prints_and_exits, {"cpu/a.cpp": 'std::printf("x");'}),
    "fprintf": (prints_and_exits, {"cpu/a.cpp": 'fprintf (stderr, "x");'}),
    "exit": (prints_and_exits, {"cpu/a.cpp": "if (bad) exit(1);"}),
    "abort": (prints_and_exits, {"cpu/a.cpp": "std::abort();"}),
}


@pytest.mark.parametrize("rule", CORE_RULES)
def test_what_is_allowed_in_the_core(rule) -> None:
    assert list(rule(FINE)) == []


@pytest.mark.parametrize(("rule", "mistake"), CORE_MISTAKES.values(), ids=CORE_MISTAKES.keys())
def test_a_mistake_in_the_core_is_found(rule, mistake: Files) -> None:
    (found,) = rule({**FINE, **mistake})
    assert next(iter(mistake)) in found


# One wrong import for every step down in the table, for every never and for every library.
PYTHON_MISTAKES = {
    "relative": (upward_imports, "errors.py", "from .model import Model"),
    "from the package": (upward_imports, "model.py", "from . import errors, chat"),
    "absolute": (upward_imports, "text/tokenizer.py", "import dialocpp.chat.session"),
    "absolute from": (upward_imports, "text/tokenizer.py", "from dialocpp.chat.session import ChatSession"),
    "the package itself": (upward_imports, "text/tokenizer.py", "import dialocpp"),
    "a name of the package": (upward_imports, "text/tokenizer.py", "from dialocpp import ChatSession"),
    "an application from the face": (upward_imports, "__init__.py", "from .cli import main"),
    "inside a function": (upward_imports, "errors.py", "def f():\n    from .checkpoint import load_checkpoint"),
    "for type checking only": (
        upward_imports,
        "decoding/generation_config.py",
        "if TYPE_CHECKING:\n    from dialocpp.model import Model",
    ),
    "from deep in a room": (upward_imports, "checkpoint/packed/cache.py", "from ...cli import main"),
    "a file without a room": (upward_imports, "helpers.py", ""),
    "a folder without a room": (upward_imports, "utils/helpers.py", ""),
    "one above the other": (upward_imports, "chat/session.py", "from dialocpp.cli.chat import chat"),
    "beside each other": (upward_imports, "prompt/window.py", "from dialocpp.decoding.seeds import fresh_seed"),
    "beside each other, too": (upward_imports, "decoding/rules.py", "from dialocpp.prompt.turns import Turn"),
    "applications": (upward_imports, "evaluation/metrics.py", "from dialocpp.benchmark import measure"),
    "the engine and turns": (forbidden_imports, "engine/request.py", "from dialocpp.prompt.turns import Turn"),
    "results hold no engine": (grounds, "engine/results.py", "from .request import Request"),
    "results hold no other": (grounds, "engine/results.py", "from dialocpp.errors import DialocppError"),
} | {
    f"{low} imports {high}": (upward_imports, f"{low}/a.py", f"from dialocpp.{high}.b import c")
    for level, rooms in enumerate(ROOMS[1:-1], 1)
    for low in sorted(rooms - {"model", "__init__"})
    for high in sorted(set().union(*ROOMS[level + 1 : -1]) - {"__init__"})
} | {
    f"{library} in {room}": (libraries_out_of_place, f"{room}/a.py", f"def f():\n    import {library}.x")
    for library, places in LIBRARIES.items()
    for room in ("chat", "engine", *sorted({"cli", "server", "training"} - places))
}  # fmt: skip


@pytest.mark.parametrize(("rule", "path", "text"), PYTHON_MISTAKES.values(), ids=PYTHON_MISTAKES.keys())
def test_a_mistake_in_the_package_is_found(rule, path: str, text: str) -> None:
    (found,) = rule({path: text})
    assert path in found


# (files, who is in the circle)
CIRCLES = {
    "of two": (
        {"text/a.py": "from .b import x", "text/b.py": "def f():\n    from .a import y"},
        "text/a.py, text/b.py",
    ),
    "of three": (
        {
            "chat/a.py": "import dialocpp.chat.b",
            "chat/b.py": "if TYPE_CHECKING:\n    from .c import x",
            "chat/c.py": "from . import a, d",
            "chat/d.py": "",
        },
        "chat/a.py, chat/b.py, chat/c.py",
    ),
    "through a room's face": (
        {"cli/__init__.py": "from .chat import chat", "cli/chat.py": "from dialocpp.cli import main"},
        "cli/__init__.py, cli/chat.py",
    ),
}


@pytest.mark.parametrize(("files", "members"), CIRCLES.values(), ids=CIRCLES.keys())
def test_a_circle_is_found(files: Files, members: str) -> None:
    assert list(circles(files)) == [f"{members} import one another"]


@pytest.mark.parametrize("rule", PACKAGE_ORDER)
def test_what_is_allowed_in_the_package(rule) -> None:
    files = {
        "__init__.py": "from .chat.session import ChatSession",
        "cli/chat.py": "import click\nimport dialocpp\nfrom dialocpp import Model\nfrom .output import console",
        "errors.py": "import json",
        "checkpoint/load.py": "from ..errors import BackendError\nfrom .. import _core\nfrom .files import X",
        "checkpoint/save.py": "from dialocpp import __version__",
        "checkpoint/packed/progress.py": "def f():\n    from rich.progress import Progress",
        "chat/session.py": "import dialocpp.errors\nfrom . import transcript\nfrom dialocpp.model import Model",
        "engine/results.py": "from dataclasses import dataclass",
        "training/finetune.py": "import torch\nfrom dialocpp.evaluation.dialogue_files import read",
    }
    assert list(rule(files)) == []


@pytest.mark.parametrize("place", ["work", "root", "home", "Users"])
def test_a_machine_path_is_found(place: str) -> None:
    files = {
        "a.md": f"see `/{place}/someone/file`",
        "b.md": f"../{place}/x and https://host/{place}/x and a/{place}/b",
    }
    assert list(machine_paths(files)) == [f"a.md: /{place}/someone"]


def test_importing_the_package_stays_light() -> None:
    script = f"import sys, dialocpp; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_heavy_modules_would_be_noticed() -> None:
    """They are installed here and spelled as they are imported: their absence above is a choice."""
    script = f"import sys, importlib\nfor name in {HEAVY}: importlib.import_module(name)\nprint('all')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "all"
