"""Do the maps show the house as it stands: the picture, and the names of files in the pages that guide a reader?"""

import re
from itertools import pairwise

import pytest
from draw_rooms import PICTURE, Box, arranged, arrow, drawing, drawn, first_sentence, reduced
from rooms import LEVEL, ROOT, package_files, room_of

PAGES = ["README.md", "CONTRIBUTING.md", "src/README.md", "docs/architecture.md"]
SOURCES = ("python/dialocpp", "src", "tests", "bench", "examples", "docs")


def named_files(page: str) -> set[str]:
    """Paths in code marks that are files of the project: `chat/session.py`, `pack.h`; not `path/to/reply.json`."""
    marked = re.findall(r"`([\w./-]+\.(?:py|pyi|cpp|h|inl|cu))`", page)
    return {name for name in marked if not name.startswith("..")}


@pytest.fixture(scope="module")
def project_files() -> list[str]:
    return [path.relative_to(ROOT).as_posix() for folder in SOURCES for path in (ROOT / folder).rglob("*.*")]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_map_names_is_there(page: str, project_files: list[str]) -> None:
    names = named_files((ROOT / page).read_text(encoding="utf-8"))
    assert page == "README.md" or names
    lost = [name for name in sorted(names) if not any(f"/{path}".endswith(f"/{name}") for path in project_files)]
    assert lost == [], f"{page} names files that are not there"


def test_a_file_that_is_not_there_is_noticed() -> None:
    assert named_files("see `engine/gone.py` and `../shared/x.py`, not `reply.json` or bare.py") == {"engine/gone.py"}


def test_the_committed_picture_is_the_one_that_the_script_draws() -> None:
    assert PICTURE.read_text(encoding="utf-8") == drawn(), (
        "expected today's rooms; run python tests/support/draw_rooms.py"
    )


def test_every_room_says_its_question() -> None:
    files = package_files()
    faces = [path for path in files if path.endswith("__init__.py") and path.count("/") == 1]
    assert {room_of(path) for path in faces} == {room for room in LEVEL if any(p.startswith(f"{room}/") for p in files)}
    for path in faces:
        opening = files[path].removeprefix('"""')
        assert first_sentence(opening).endswith("?"), f"{path} begins with no question"


def test_an_edge_that_follows_from_others_is_not_drawn() -> None:
    edges = {"cli": {"chat", "text", "errors"}, "chat": {"text"}, "text": {"_core", "errors"}, "__main__": {"cli"}}
    assert reduced(edges) == {"cli": {"chat"}, "chat": {"text"}, "text": {"_core"}}


ROWS = [{"cli"}, {"evaluation", "benchmark"}, {"chat"}, {"text"}]


def test_arrows_past_a_row_run_straight_down_beside_it() -> None:
    rows, lanes = arranged(ROWS, {"cli": {"benchmark"}, "evaluation": {"text"}, "benchmark": {"chat"}})
    assert [set(row) for row in rows] == ROWS
    (x,) = lanes.values()
    assert x > 700 and rows[1] == ["benchmark", "evaluation"]  # the far one stands at its arrow's side


@pytest.mark.parametrize("lane", [None, 52.0])
@pytest.mark.parametrize("target", [Box(40, 700, 3), Box(400, 700, 3), Box(40, 200, 3)])
def test_an_arrow_only_goes_down(target: Box, lane: float | None) -> None:
    path = arrow(Box(40, 380, 0), target, lane)
    heights = [float(y) for y in re.findall(r"(?:[MV]|C \S+ \S+ \S+ \S+ \S+) (?:\S+ )??([\d.]+)(?= [CV]|\")", path)]
    assert heights[0] == 92 and heights[-1] == target.top - 2
    assert all(a < b for a, b in pairwise(heights))


def test_the_picture_of_a_small_house() -> None:
    package = {"chat/__init__.py": '"""How does one talk? <&>"""', "chat/a.py": "from dialocpp import _core"}
    core = {"bindings/a.cpp": '#include "base/error.h"', "base/error.h": ""}
    picture = drawing(package, core, "| 0 | `base/` | what is below? x | y |", "Ids in.")
    assert re.findall(r'class="name"[^>]*>([^<]+)<', picture) == ["chat", "_core.pyi", "src/bindings", "src/base"]
    assert re.findall(r'class="question"[^>]*>([^<]+)<', picture) == ["How does one talk?", "Ids in.", "What is below?"]
    assert picture.count('class="arrow"') == 3
