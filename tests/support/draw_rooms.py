"""What does the house look like from the side? Draws docs/rooms.svg from the imports that stand in the code.

    python tests/support/draw_rooms.py

A row of the picture is a row of the table of rooms. What a room says of itself is the question in its docstring, for a
room of the core that in src/README.md. An arrow is an import; one that follows from two others is not drawn.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, permutations, product
from math import fsum
from pathlib import Path
from textwrap import wrap
from xml.sax.saxutils import escape

from rooms import (
    CORE_ROOMS,
    LEVEL,
    ROOMS,
    ROOT,
    Files,
    core_files,
    imported_modules,
    included_files,
    package_files,
    reachable,
    room_of,
)

PICTURE = ROOT / "docs" / "rooms.svg"

Edges = Mapping[str, set[str]]  # a room -> the rooms that it imports
Lanes = dict[tuple[str, str], float]  # who imports whom -> where that arrow passes the rows between them

CORE_ROWS = [{f"src/{room}" for room in row} for row in CORE_ROOMS[::-1]]

# Every room may use `errors`, and `__main__` only calls `cli`: there is nothing to see.
UNSEEN = {"errors", "__main__"}
NAMES = {"__init__": "dialocpp", "_core": "_core.pyi"}

WIDTH, MARGIN, BOX, GAP, LANE, ASIDE = 760, 36, 56, 26, 22, 16  # pixels
STYLE = """
  text { font-family: "Helvetica Neue", Helvetica, Arial, sans-serif; text-anchor: middle; }
  .name { font-size: 15px; font-weight: 600; fill: #2f3437; }
  .question { font-size: 12px; fill: #6d7478; }
  .box { stroke-width: 1; rx: 7px; }
  .package .box { fill: #fbf8f1; stroke: #d9cfba; }
  .border .box { fill: #2f3437; stroke: #2f3437; }
  .border .name { fill: #ffffff; }
  .border .question { fill: #c9ced1; }
  .core .box { fill: #f0f5f7; stroke: #bfd0d8; }
  .arrow { fill: none; stroke: #8f979b; stroke-width: 1.3; marker-end: url(#head); }
"""
FRAME = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<style>{style}</style>
<defs>
<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M 0 0.8 L 7 4 L 0 7.2 z" fill="#8f979b"/>
</marker>
</defs>
<rect width="{width}" height="{height}" fill="#ffffff"/>
{content}
</svg>
"""


@dataclass(frozen=True)
class Box:
    """Where a room stands, and in which row, counted from the top."""

    left: float
    right: float
    row: int

    @property
    def top(self) -> float:
        return MARGIN + self.row * (BOX + GAP)

    @property
    def bottom(self) -> float:
        return self.top + BOX

    @property
    def middle(self) -> float:
        return self.at(0.5)

    def at(self, share: float) -> float:
        return round(self.left + share * (self.right - self.left), 1)

    def holds(self, x: float) -> bool:
        return self.left + 10 <= x <= self.right - 10


def package_edges(files: Files) -> dict[str, set[str]]:
    edges: dict[str, set[str]] = {}
    for path, text in files.items():
        tops = {target.split(".")[0] for target in imported_modules(path, text)}
        edges.setdefault(room_of(path), set()).update(top if top in LEVEL else "__init__" for top in tops)
    return edges


def core_edges(files: Files) -> dict[str, set[str]]:
    """As `src/engine`: the package has rooms of the same names."""
    edges: dict[str, set[str]] = {}
    for path, text in files.items():
        targets = {"src/" + target.split("/")[0] for target in included_files(text)}
        edges.setdefault("src/" + path.split("/")[0], set()).update(targets)
    return edges


def reduced(edges: Edges) -> dict[str, set[str]]:
    """Without the edges that a longer way also goes."""
    direct = {room: targets - {room} - UNSEEN for room, targets in edges.items() if room not in UNSEEN}
    return {
        room: {far for far in targets if not any(far in reachable(near, direct) for near in targets - {far})}
        for room, targets in direct.items()
    }


def questions(files: Files, map_of_core: str) -> dict[str, str]:
    """Room -> the question that it answers, or else its docstring's first sentence."""
    own = {room_of(path): text for path, text in files.items() if path.count("/") == path.endswith("/__init__.py")}
    said = {room: ast.get_docstring(ast.parse(text)) or "" for room, text in own.items()}
    core = re.findall(r"^\| \d+ \| `(\w+)/` \| ([^|]+) \|", map_of_core, re.MULTILINE)
    said |= {f"src/{room}": text for room, text in core}
    return {room: first_sentence(text) for room, text in said.items()}


def first_sentence(text: str) -> str:
    text = re.split(r"(?<=[?.])\s", " ".join(text.split()))[0]
    return text[:1].upper() + text[1:]


def arranged(levels: Iterable[Iterable[str]], edges: Edges) -> tuple[list[list[str]], Lanes]:
    """The rows from the top, and the ways past them: with the fewest bends, then with the least that goes aside."""
    choices = [list(permutations(sorted(level))) for level in levels if level]
    orders = [[list(row) for row in rows] for rows in product(*choices)]
    ways = [(rows, way) for rows in orders for way in lanes(rows, edges)]
    return min(ways, key=lambda found: (bends(found[1], placed(*found)), aside(found[0], edges)))


def aside(rows: list[list[str]], edges: Edges) -> float:
    """How far all arrows go aside; one that passes rows has its way at the picture's sides."""
    at = {room: (number, (place + 0.5) / len(row)) for number, row in enumerate(rows) for place, room in enumerate(row)}
    ways = [(at[room], at[target]) for room, targets in edges.items() for target in targets]
    return fsum(  # the same in any order
        abs(x - y) if high == low + 1 else 0.5 - max(abs(x - 0.5), abs(y - 0.5)) for (low, x), (high, y) in ways
    )


def lanes(rows: list[list[str]], edges: Edges) -> Iterator[Lanes]:
    """The x of each arrow that passes rows, for every choice of sides."""
    row_of = {room: number for number, row in enumerate(rows) for room in row}
    passing = [(room, far) for room in row_of for far in sorted(edges.get(room, ())) if row_of[far] > row_of[room] + 1]
    passing.sort(key=lambda edge: row_of[edge[0]] - row_of[edge[1]])  # the longest outside
    for sides in product(("right", "left"), repeat=len(passing)):
        yield _lanes(passing, sides, row_of)


def _lanes(passing: list[tuple[str, str]], sides: tuple[str, ...], row_of: Mapping[str, int]) -> Lanes:
    found: Lanes = {}
    taken: dict[str, list[tuple[int, int]]] = {"left": [], "right": []}
    for (room, far), side in zip(passing, sides, strict=True):
        begin, end = row_of[room], row_of[far]
        inset = MARGIN + ASIDE + LANE * sum(begin < last and first < end for first, last in taken[side])
        found[room, far] = inset if side == "left" else WIDTH - inset
        taken[side].append((begin, end))
    return found


def bends(way: Lanes, boxes: Mapping[str, Box]) -> int:
    return sum(not boxes[room].holds(x) for edge, x in way.items() for room in edge)


def placed(rows: list[list[str]], passing: Lanes) -> dict[str, Box]:
    """Each row from side to side, but for the arrows that pass it."""
    row_of = {room: number for number, row in enumerate(rows) for room in row}
    boxes = {}
    for number, row in enumerate(rows):
        by = [x for (room, target), x in passing.items() if row_of[room] < number < row_of[target]]
        left = max((x + ASIDE for x in by if x < WIDTH / 2), default=MARGIN)
        right = min((x - ASIDE for x in by if x > WIDTH / 2), default=WIDTH - MARGIN)
        width = (right - left + GAP) / len(row)
        for place, room in enumerate(row):
            boxes[room] = Box(left + place * width, left + (place + 1) * width - GAP, number)
    return boxes


def arrow(source: Box, target: Box, lane: float | None) -> str:
    """Straight down wherever one room stands below the other or beside the rows between, else aslant in the gaps."""
    low, high = max(source.left, target.left), min(source.right, target.right)
    straight = lane if lane is not None else (low + high) / 2
    right = target.middle > source.middle
    begin = straight if source.holds(straight) else source.at(0.8 if right else 0.2)
    end = straight if target.holds(straight) else target.at(0.2 if right else 0.8)
    stops = [
        (begin, source.bottom),
        (straight, source.bottom + GAP),
        (straight, target.top - GAP),
        (end, target.top - 2),
    ]
    if lane is None:
        stops = [stops[0], stops[-1]]
    steps = (_step(*pair) for pair in pairwise(stops))
    return f'<path class="arrow" d="M {begin:g} {source.bottom:g}{"".join(steps)}"/>'


def _step(begin: tuple[float, float], end: tuple[float, float]) -> str:
    (x, y), (to_x, to_y) = begin, end
    if x == to_x:
        return f" V {to_y:g}"
    return f" C {x:g} {to_y:g} {to_x:g} {y:g} {to_x:g} {to_y:g}"


def shown(room: str, box: Box, question: str, kind: str) -> str:
    lines = wrap(question, int((box.right - box.left - 16) / 6))
    first = box.top + BOX / 2 + 5 - 8 * len(lines)
    texts = [f'<text class="name" x="{box.middle:g}" y="{first:g}">{escape(NAMES.get(room, room))}</text>']
    for number, line in enumerate(lines, 1):
        y = first + 2 + 15 * number
        texts.append(f'<text class="question" x="{box.middle:g}" y="{y:g}">{escape(line)}</text>')
    size = f'x="{box.left:g}" y="{box.top:g}" width="{box.right - box.left:g}" height="{BOX}"'
    return f'<g class="{kind}"><rect class="box" {size}/>{"".join(texts)}</g>'


def drawing(package: Files, core: Files, map_of_core: str, border: str) -> str:
    """The whole picture as SVG."""
    edges = reduced(package_edges(package)) | reduced(core_edges(core)) | {"_core": {"src/bindings"}}
    there = {*edges, *set().union(*edges.values())}
    rows, passing = arranged((row & there - UNSEEN for row in (*ROOMS[::-1], *CORE_ROWS)), edges)
    boxes = placed(rows, passing)
    asked = questions(package, map_of_core) | {"_core": border}
    kinds = {room: "core" if room.startswith("src/") else "border" if room == "_core" else "package" for room in boxes}
    arrows = [
        arrow(boxes[room], boxes[target], passing.get((room, target)))
        for room in boxes
        for target in sorted(edges.get(room, ()))
    ]
    seen = [shown(room, box, asked.get(room, ""), kinds[room]) for room, box in boxes.items()]
    height = MARGIN + len(rows) * (BOX + GAP) - GAP + MARGIN
    return FRAME.format(width=WIDTH, height=height, style=STYLE, content="\n".join([*arrows, *seen]))


def drawn(checkout: Path = ROOT) -> str:
    """The picture of a checkout as it stands."""
    stub = (checkout / "python" / "dialocpp" / "_core.pyi").read_text(encoding="utf-8")
    border = first_sentence(ast.get_docstring(ast.parse(stub)) or "")
    map_of_core = (checkout / "src" / "README.md").read_text(encoding="utf-8")
    return drawing(package_files(checkout), core_files(checkout), map_of_core, border)


if __name__ == "__main__":
    PICTURE.write_text(drawn(), encoding="utf-8")
