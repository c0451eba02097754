"""Does every file know only the layers below it? And is the package as light and as portable as it promises?

Each rule is a function from files to violations. It is held against the repository and against
planted mistakes.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# A folder of src/ may include itself and any folder of a lower layer.
CORE_ROOMS = ["base"], ["kernels", "model"], ["sampling", "cpu", "cuda"], ["engine"], ["bindings", "capi"]
CORE_LAYERS = {room: layer for layer, rooms in enumerate(CORE_ROOMS) for room in rooms}
CORE_PLANNED = {"cuda", "capi"}

# The rooms of python/dialocpp, lowest first. A room may import those of the lines above its own, and nothing of its own
# line but itself. `__init__` is the package's face: below it is what it shows, above it are the applications.
ROOMS = [
    {"_core", "errors"},
    {"checkpoint"},
    {"text"},
    {"prompt", "decoding"},
    {"engine"},
    {"model"},
    {"chat"},
    {"__init__"},
    {"evaluation", "benchmark", "server"},
    {"training"},
    {"cli"},
    {"__main__"},
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}

# What the order alone would allow: (who, what it must never import, why).
NEVERS = [
    ("engine", {"prompt"}, "the engine knows token ids and no turns"),
]

# Who may import a library that is heavy, or that belongs to one subject.
LIBRARIES = {
    "click": {"cli"},
    "rich": {"cli", "checkpoint/packed/progress.py"},  # the bar of the first load, imported when it is drawn
    "huggingface_hub": {"checkpoint"},
    "fastapi": {"server"},
    "starlette": {"server"},
    "uvicorn": {"server"},
    "ray": {"server"},
    "torch": {"training"},
    "transformers": {"training"},
    "accelerate": {"training"},
}

# The ground of the engine: what comes back from it, which every room above it may hold without holding an engine.
ALONE = {"engine/results.py"}

# What a chat needs none of: the peers of the tests, the terminal's packages, and the network.
HEAVY = ["torch", "transformers", "rich", "click", "huggingface_hub"]

Files = Mapping[str, str]  # path from the rule's root -> content


def read(root: Path, *patterns: str) -> dict[str, str]:
    """The text files under `root` that match, without caches."""
    paths = {path for pattern in patterns for path in root.glob(pattern)}
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(paths)
        if path.is_file() and "__pycache__" not in path.parts
    }


def core_files() -> dict[str, str]:
    return read(ROOT / "src", *(f"**/*.{suffix}" for suffix in ("h", "cpp", "inl", "cu", "cuh")))


def package_files() -> dict[str, str]:
    return read(ROOT / "python" / "dialocpp", "**/*.py")


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


def upward_includes(files: Files) -> Iterator[str]:
    """`#include "..."` names a file of src/ from its root, of the same folder or of a lower layer."""
    for path, text in files.items():
        folder = path.split("/")[0]
        for target in re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.MULTILINE):
            below = target.split("/")[0]
            if target not in files:
                yield f"{path} includes {target}, which is not a path in src/"
            elif folder != below and CORE_LAYERS[below] >= CORE_LAYERS[folder]:
                yield f"{path} includes {target}, which is not below {folder}/"


def unknown_folders(files: Files) -> Iterator[str]:
    for path in files:
        if path.split("/")[0] not in CORE_LAYERS:
            yield f"{path} is in no layer"


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


def imported_modules(path: str, text: str) -> Iterator[str]:
    """The modules of our package that a file imports, wherever the import stands, from the package's root."""
    for name in imported_names(path, text):
        top, _, rest = name.partition(".")
        # The version is a name tag on the door, not a module behind it.
        if top == "dialocpp" and rest != "__version__":
            yield rest or "__init__"


def imported_names(path: str, text: str) -> Iterator[str]:
    """Every import of a file as a dotted name from the top; in `from x import y` that is x.y."""
    package = ["dialocpp", *path.split("/")[:-1]]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            # In `from . import x` it is x that is a module.
            yield from (".".join([*base, alias.name]) for alias in node.names)


def room_of(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def upward_imports(files: Files) -> Iterator[str]:
    """A room imports rooms of lower lines, and itself."""
    for path, text in files.items():
        room = room_of(path)
        if room not in LEVEL:
            yield f"{path} is in no room"
            continue
        for target in imported_modules(path, text):
            # What is no room may be a name that `__init__` shows.
            imported = target.split(".")[0] if target.split(".")[0] in LEVEL else "__init__"
            if imported != room and LEVEL[imported] >= LEVEL[room]:
                yield f"{path} imports {target}, which is not below {room}"


def forbidden_imports(files: Files) -> Iterator[str]:
    """The nevers that the order does not hold."""
    for path, text in files.items():
        for room, never, why in NEVERS:
            for target in imported_modules(path, text):
                if room_of(path) == room and target.split(".")[0] in never:
                    yield f"{path} imports {target}: {why}"


def libraries_out_of_place(files: Files) -> Iterator[str]:
    """A library of one subject is imported in that subject's room alone, also inside of functions."""
    for path, text in files.items():
        for name in imported_names(path, text):
            library = name.split(".")[0]
            if library in LIBRARIES and not {room_of(path), path} & LIBRARIES[library]:
                yield f"{path} imports {library}"


def grounds(files: Files) -> Iterator[str]:
    """Files that import nothing of the package."""
    for path in ALONE & files.keys():
        for target in imported_modules(path, files[path]):
            yield f"{path} imports {target}, but stands alone"


def machine_paths(files: Files) -> Iterator[str]:
    """No absolute path of some developer's or CI's machine."""
    for path, text in files.items():
        for match in re.finditer(r"(?<![\w.~/-])/(?:work|root|home|Users)/[\w.-]*", text):
            yield f"{path}: {match.group()}"


CORE_RULES = [upward_includes, unknown_folders, cuda_switches, prints_and_exits]


@pytest.mark.parametrize("rule", CORE_RULES)
def test_the_core_keeps_its_layers(rule) -> None:
    files = core_files()
    assert {path.split("/")[0] for path in files} >= CORE_LAYERS.keys() - CORE_PLANNED, "src/ was not read"
    assert list(rule(files)) == []


def test_includes_were_seen_between_the_layers() -> None:
    crossings = {
        (path.split("/")[0], target.split("/")[0])
        for path, text in core_files().items()
        for target in re.findall(r'#include "([^"]+)"', text)
    }
    assert {("kernels", "base"), ("cpu", "kernels"), ("cpu", "model"), ("bindings", "engine")} <= crossings


PACKAGE_RULES = [upward_imports, forbidden_imports, libraries_out_of_place, grounds]


@pytest.mark.parametrize("rule", PACKAGE_RULES)
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
    for low in rooms - {"model", "__init__"}
    for high in set().union(*ROOMS[level + 1 : -1]) - {"__init__"}
} | {
    f"{library} in {room}": (libraries_out_of_place, f"{room}/a.py", f"def f():\n    import {library}.x")
    for library, places in LIBRARIES.items()
    for room in ("chat", "engine", *({"cli", "server", "training"} - places))
}  # fmt: skip


@pytest.mark.parametrize(("rule", "path", "text"), PYTHON_MISTAKES.values(), ids=PYTHON_MISTAKES.keys())
def test_a_mistake_in_the_package_is_found(rule, path: str, text: str) -> None:
    (found,) = rule({path: text})
    assert path in found


@pytest.mark.parametrize("rule", PACKAGE_RULES)
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
