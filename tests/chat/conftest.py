"""Which models do tests of conversations talk to? A random one that ends many turns, one of bytes, the bundled one."""

from collections.abc import Callable
from pathlib import Path

import pytest
from dialocpp import Model
from small_models import Gpt2, gpt2_config, random_gpt2


@pytest.fixture(scope="module")
def random_folder(save_folder: Callable[[Gpt2], Path]) -> Path:
    """A model that ends many of its turns. Its tokens are ASCII: one each, so that every token is a piece."""
    sizes = {"n_positions": 256, "n_embd": 48, "n_head": 3}
    return save_folder(random_gpt2(gpt2_config(**sizes), seed=2, end_lift=1.0))


@pytest.fixture(scope="module")
def random_model(random_folder: Path) -> Model:
    return Model.from_pretrained(random_folder, dtype="float32", num_threads=1)


@pytest.fixture(scope="module")
def bytes_model(save_folder: Callable[[Gpt2], Path]) -> Model:
    """Its tokenizer knows every byte and few pairs: other characters than ASCII take several tokens."""
    return Model.from_pretrained(save_folder(random_gpt2(gpt2_config(vocab_size=301), seed=3)), num_threads=1)


@pytest.fixture(scope="module")
def bundled_model() -> Model:
    return Model.from_pretrained(num_threads=1)


@pytest.fixture(params=["random", "bundled"])
def model(request: pytest.FixtureRequest) -> Model:
    return request.getfixturevalue(f"{request.param}_model")
