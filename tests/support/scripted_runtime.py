"""How does a model say what a test wants? Its sessions are served by a scheduler with a script."""

import dataclasses
from typing import Any

import pytest
from dialocpp import Model
from dialocpp.engine.runtime import Runtime


def serve_with(monkeypatch: pytest.MonkeyPatch, model: Model, scheduler: Any) -> Runtime:
    """Until the test ends, what is asked of the model goes to `scheduler`; the runtime that does so."""
    runtime = dataclasses.replace(model.runtime, scheduler=scheduler)
    monkeypatch.setattr(model, "_runtime", runtime)
    return runtime
