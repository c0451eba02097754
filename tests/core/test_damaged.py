"""Does a model with damaged weights say so? A file that was whole when it was packed can still lose a bit later."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialocpp import BackendError, ChatSession, Model
from dialocpp.checkpoint import load_checkpoint
from sentences import one_sentence
from small_models import Gpt2, gpt2_config, random_gpt2

ACTIVATIONS = ["gelu_new", "relu", "gelu", "silu", "quick_gelu"]
PROMPT = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def folders(save_folder: Callable[[Gpt2], Path]) -> dict[str, Path]:
    return {name: save_folder(random_gpt2(gpt2_config(activation_function=name))) for name in ACTIVATIONS}


def with_one(loaded: Any, name: str, value: float, index: int = 0) -> Model:
    """The model with one number replaced: by default the first, which token 0 at position 0 meets."""
    tensor = loaded.tensors[name].copy()
    tensor.reshape(-1)[index] = value
    return Model(dataclasses.replace(loaded, tensors=loaded.tensors | {name: tensor}), num_threads=1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_an_error(
    folders: dict[str, Path], dtype: str, activation: str, value: float
) -> None:
    """Wherever it lies: in a weight, a bias, a scale or an embedding."""
    loaded = load_checkpoint(folders[activation], dtype=dtype)
    swallowed = []
    for name, tensor in loaded.tensors.items():
        if tensor.dtype.kind != "f":
            continue
        model = with_one(loaded, name, value)
        try:
            model.generate(PROMPT, max_new_tokens=2)
            swallowed.append(name)
        except BackendError as error:
            assert "expected finite" in str(error)
    assert swallowed == []


@pytest.mark.parametrize("index", [0, 9])  # a comparison with the first logit alone would show a NaN there only
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["wte.weight_scale", "ln_f.bias"])
def test_a_damaged_head_shows_in_scores(folders: dict[str, Path], name: str, value: float, index: int) -> None:
    model = with_one(load_checkpoint(folders["gelu_new"], dtype="int8"), name, value, index)
    for ask in (lambda: model.logprobs([5, 6, 7]), lambda: model.score(["ab"], "cd")):
        with one_sentence(BackendError, "expected finite"):
            ask()


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_an_error_in_mid_reply_leaves_the_session_whole(folders: dict[str, Path], dtype: str) -> None:
    """Only a later position is damaged: what is short still works."""
    loaded = load_checkpoint(folders["gelu_new"], dtype=dtype)
    wpe = loaded.tensors["wpe.weight"].copy()
    wpe[20, 3] = np.nan
    model = Model(dataclasses.replace(loaded, tensors=loaded.tensors | {"wpe.weight": wpe}), num_threads=2)
    chat = ChatSession(model, seed=1, max_new_tokens=3, max_retries=0)
    chat.reply("Hello")
    history = chat.history
    for _ in range(2):
        with one_sentence(BackendError, "expected finite"):
            chat.reply("Hello", max_new_tokens=30, min_new_tokens=30)
        assert chat.history == history
    chat.reset()
    chat.reply("Hello")
    with one_sentence(BackendError, "expected finite"):
        model.logits(range(30))
    assert np.isfinite(model.logits(range(20))).all()
