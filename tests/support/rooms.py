"""Which room may import which? The table of rooms of the package and of the core, and the rules that hold it.

Each rule is a function from files to violations. `test_layers.py` holds the repository against them, `layout.py` counts
what they find in any checkout, and `draw_rooms.py` draws the rows and the imports between them.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

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

ROOT = Path(__file__).parents[2]

Files = Mapping[str, str]  # path from the rule's root -> content


def read(root: Path, *patterns: str) -> dict[str, str]:
    """The text files under `root` that match, without caches."""
    paths = {path for pattern in patterns for path in root.glob(pattern)}
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(paths)
        if path.is_file() and "__pycache__" not in path.parts
    }


def core_files(checkout: Path = ROOT) -> dict[str, str]:
    return read(checkout / "src", *(f"**/*.{suffix}" for suffix in ("h", "cpp", "inl", "cu", "cuh")))


def package_files(checkout: Path = ROOT) -> dict[str, str]:
    return read(checkout / "python" / "dialocpp", "**/*.py")


def included_files(text: str) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*"([^"]+)"', text, re.MULTILINE)


def upward_includes(files: Files) -> Iterator[str]:
    """`#include "..."` names a file of src/ from its root, of the same folder or of a lower layer."""
    for path, text in files.items():
        folder = path.split("/")[0]
        for target in included_files(text):
            below = target.split("/")[0]
            if target not in files:
                yield f"{path} includes {target}, which is not a path in src/"
            elif folder != below and CORE_LAYERS[below] >= CORE_LAYERS[folder]:
                yield f"{path} includes {target}, which is not below {folder}/"


def unknown_folders(files: Files) -> Iterator[str]:
    for path in files:
        if path.split("/")[0] not in CORE_LAYERS:
            yield f"{path} is in no layer"


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


def file_of(target: str, files: Files) -> str | None:
    """The file in which a name of `imported_modules` stands; None for one that is not among `files`."""
    parts = target.split(".")
    heads = ["/".join(parts[:end]) for end in range(len(parts), 0, -1)]
    found = next((path for head in heads for path in (f"{head}.py", f"{head}/__init__.py") if path in files), None)
    # What is neither a file nor in a room is a name that the package's face shows.
    return found if found or parts[0] in LEVEL else "__init__.py"


def file_imports(files: Files) -> dict[str, set[str]]:
    """For each file the others of `files` that it imports, wherever the import stands."""
    found = {path: {file_of(target, files) for target in imported_modules(path, files[path])} for path in files}
    return {path: {target for target in targets if target and target != path} for path, targets in found.items()}


def circles(files: Files) -> Iterator[str]:
    """Files that import one another in a loop, also inside of functions."""
    yield from (", ".join(loop) + " import one another" for loop in loops(file_imports(files)))


def loops(successors: Mapping[str, set[str]]) -> list[list[str]]:
    """The largest sets of nodes that all reach one another, of two nodes or more."""
    reached = {node: reachable(node, successors) for node in successors}
    found = {frozenset({a, *(b for b in reached[a] if a in reached[b])}) for a in successors if a in reached[a]}
    return sorted(sorted(loop) for loop in found)


def reachable(start: str, successors: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = successors.get(waiting.pop(), set()) - seen
        seen |= new
        waiting += new
    return seen


CORE_ORDER = [upward_includes, unknown_folders]
PACKAGE_ORDER = [upward_imports, forbidden_imports, libraries_out_of_place, grounds, circles]
