"""How large are the files and functions of a checkout, and which imports run against the table of rooms?

    python tests/support/layout.py [CHECKOUT …]

prints one column for each checkout, this one by default, so that a commit can be compared with an earlier one. Where
files stand in no room, the table says nothing about their imports. Lines per function include the docstring and inner
functions.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from math import ceil
from pathlib import Path

from rooms import (
    CORE_ORDER,
    LEVEL,
    PACKAGE_ORDER,
    ROOT,
    Files,
    circles,
    core_files,
    package_files,
    read,
    room_of,
)

DIRECTION = [rule for rule in PACKAGE_ORDER if rule is not circles]


def figures(checkout: Path) -> dict[str, str]:
    """What is printed of one checkout: a row's name -> its figure."""
    package, core, tests = package_files(checkout), core_files(checkout), read(checkout / "tests", "**/*.py")
    if not package:
        raise ValueError(f"expected a checkout with python/dialocpp/, found {checkout}; give the repository's root")
    homeless = [path for path in package if room_of(path) not in LEVEL]
    spreads = {
        "lines per file of the package": file_lines(package),
        "lines per file of the core": file_lines(core),
        "lines per file of the tests": file_lines(tests),
        "lines per function of the package": function_lines(package),
        "lines per function of the tests": function_lines(tests),
    }
    counts = {
        "modules at the package's top level": len(read(checkout / "python" / "dialocpp", "*.py", "*.pyi")),
        "files of the package in no room": len(homeless),
        "imports against the table of rooms": "?" if homeless else sum(count(rule(package)) for rule in DIRECTION),
        "circles of imports": count(circles(package)),
        "includes against the layers of the core": sum(count(rule(core)) for rule in CORE_ORDER),
    }
    return {name: str(number) for name, number in counts.items()} | {
        name: spread(sizes) for name, sizes in spreads.items()
    }


def count(found: Iterable[str]) -> int:
    return sum(1 for _ in found)


def file_lines(files: Files) -> list[int]:
    return [len(text.splitlines()) for text in files.values()]


def function_lines(files: Files) -> list[int]:
    return [lines for text in files.values() for lines in _function_lines(text)]


def _function_lines(text: str) -> Iterator[int]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield (node.end_lineno or node.lineno) - node.lineno + 1


def spread(sizes: list[int]) -> str:
    """How many, and the sizes that half, nine tenths and all of them do not exceed."""
    if not sizes:
        return "none"
    ordered = sorted(sizes)
    half, most = (ordered[ceil(len(ordered) * share) - 1] for share in (0.5, 0.9))
    return f"{len(ordered)}: {half}, {most}, {ordered[-1]}"


def table(columns: dict[str, dict[str, str]]) -> str:
    """One row for each figure, one column for each checkout."""
    first = next(iter(columns.values()))
    rows = [["", *columns]] + [[name, *(column[name] for column in columns.values())] for name in first]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    aligned = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    legend = "Lines: of how many files or functions; the median, the 90th percentile, the longest."
    return "\n".join([*aligned, "", legend])


if __name__ == "__main__":
    checkouts = [Path(name).resolve() for name in sys.argv[1:]] or [ROOT]
    print(table({checkout.name: figures(checkout) for checkout in checkouts}))
