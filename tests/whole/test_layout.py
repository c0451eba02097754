"""Are the figures of the layout what a reader would count by hand?"""

from pathlib import Path

import pytest
from layout import figures, spread, table
from rooms import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Three modules in a package, of which two import each other upwards, and a test."""
    files = {
        "python/dialocpp/__init__.py": "",
        "python/dialocpp/model.py": "def f():\n    from .chat.session import g\n\n    return g\n",
        "python/dialocpp/chat/session.py": "from ..model import f\n\n\ndef g():\n    def h():\n        pass\n",
        "src/base/error.h": '#include "cpu/weights.h"\n',
        "src/cpu/weights.h": "",
        "tests/test_a.py": "def test_a():\n    pass\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_what_is_counted(checkout: Path) -> None:
    assert figures(checkout) == {
        "modules at the package's top level": "2",
        "files of the package in no room": "0",
        "imports against the table of rooms": "1",
        "circles of imports": "1",
        "includes against the layers of the core": "1",
        "lines per file of the package": "3: 4, 6, 6",
        "lines per file of the core": "2: 0, 1, 1",
        "lines per file of the tests": "1: 2, 2, 2",
        "lines per function of the package": "3: 3, 4, 4",
        "lines per function of the tests": "1: 2, 2, 2",
    }


def test_a_file_in_no_room_is_counted_and_judges_no_import(checkout: Path) -> None:
    (checkout / "python" / "dialocpp" / "helpers.py").write_text("from .cli import main\n")
    found = figures(checkout)
    assert found["files of the package in no room"] == "1"
    assert found["imports against the table of rooms"] == "?"


def test_a_folder_without_the_package_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a checkout with python/dialocpp/, found"):
        figures(tmp_path)


@pytest.mark.parametrize(
    ("sizes", "text"), [([], "none"), ([7], "1: 7, 7, 7"), (list(range(1, 11)), "10: 5, 9, 10"), ([9, 1], "2: 1, 9, 9")]
)
def test_the_spread_of_sizes(sizes: list[int], text: str) -> None:
    assert spread(sizes) == text


def test_one_column_for_each_checkout() -> None:
    lines = table({"before": {"a": "1", "bc": "22"}, "after": {"a": "3", "bc": "4"}}).splitlines()
    assert lines[:3] == ["    before  after", "a   1       3", "bc  22      4"]


def test_this_checkout_keeps_its_order() -> None:
    found = figures(ROOT)
    assert found["imports against the table of rooms"] == found["circles of imports"] == "0"
    assert int(found["modules at the package's top level"]) <= 6
