"""Where in what torch.save wrote are the weights? Trainings put other things beside and around them."""

from __future__ import annotations

from typing import Any

from dialocpp.errors import brief

from .pickle_machine import DamagedError
from .torch_objects import TensorView

# Under these names trainings save the weights beside the state of the training.
_USUAL = ("state_dict", "model_state_dict", "model", "module")


def state_dict_in(value: Any) -> dict[str, TensorView]:
    """The tensors of a dict, or of a dict in it; what is no tensor is left out. DamagedError if there are none."""
    if type(value) is not dict:
        raise DamagedError("a pickle that is not a dict of tensors")
    inside = {name: tensors for name, inner in value.items() if type(inner) is dict and (tensors := _tensors(inner))}
    usual = next((inside[name] for name in _USUAL if name in inside), None)
    found = usual or _tensors(value)
    if found:
        return found
    if len(inside) > 1:
        raise DamagedError(f"several dicts of tensors, {', '.join(map(brief, list(inside)[:4]))}")
    if not inside:
        kinds = sorted({type(inner).__name__ for inner in value.values()})
        raise DamagedError(f"a dict without tensors (of {', '.join(kinds[:4])})" if kinds else "an empty dict")
    return next(iter(inside.values()))


def _tensors(values: dict[Any, Any]) -> dict[str, TensorView]:
    return {name: value for name, value in values.items() if type(name) is str and type(value) is TensorView}
