"""Does the core refuse objects that nobody constructed? A crash would end the tests: each has its own process."""

import inspect
import subprocess
import sys

import pytest
from dialocpp import _core

CLASSES = [name for name, value in vars(_core).items() if inspect.isclass(value)]


def outcome(code: str) -> str:
    """`TypeError`, or whatever else came of it."""
    program = f"from dialocpp import _core\ntry:\n    {code}\nexcept TypeError:\n    print('TypeError')"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return run.stdout.strip() or f"status {run.returncode}: {run.stderr}"


def test_the_classes_are_found() -> None:
    assert {"Engine", "Sequence", "Work", "SamplingParams", "Weights", "Config"} <= set(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_no_object_without_its_constructor(name: str) -> None:
    assert outcome(f"_core.{name}.__new__(_core.{name})") == "TypeError"
    assert outcome(f"object.__new__(_core.{name})") == "TypeError"


def test_an_engine_needs_weights() -> None:
    assert outcome("_core.Engine(None, 1, 1 << 20)") == "TypeError"
