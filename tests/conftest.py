"""What do tests share? The data beside the checkout, small random GPT-2s, and the ISA rungs of this CPU.

A test that takes `shared` skips where ../shared is absent; one that takes `runnable_isa` runs once a rung.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from shared_data import SHARED
from small_models import END_OF_TEXT, Gpt2, byte_level_tokenizer, gpt2_config, random_gpt2, write_checkpoint


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes `runnable_isa` on every rung; a rung that this CPU lacks is a named skip."""
    if "runnable_isa" not in metafunc.fixturenames:
        return
    from dialocpp import _core

    rungs = []
    for name, _, missing in _core.isa_ladder():
        lacking = pytest.mark.skipif(bool(missing), reason=f"this CPU lacks {', '.join(missing)}")
        rungs.append(pytest.param(name, marks=lacking))
    metafunc.parametrize("runnable_isa", rungs)


@pytest.fixture(scope="session", autouse=True)
def no_test_writes_to_the_user_s_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nor finds anything there that another run has left."""
    os.environ["DIALOCPP_CACHE"] = str(tmp_path_factory.mktemp("cache") / "dialocpp")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the demo model, the dialogues and GPT-2's tokenizer: not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"needs the data folder {SHARED.name}/ beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def tiny() -> Gpt2:
    """C = 40, H = 5, L = 2, T ≤ 64, V = 97: milliseconds, and a tail in every loop."""
    return random_gpt2(gpt2_config())


@pytest.fixture(scope="session")
def wide() -> Gpt2:
    """C = 160, H = 2 (D = 80), L = 3, T ≤ 160, V = 301: heads of five vectors, prompts of five KV pages."""
    sizes = {"vocab_size": 301, "n_positions": 160, "n_embd": 160, "n_layer": 3, "n_head": 2}
    return random_gpt2(gpt2_config(**sizes), seed=1, end_lift=1.2)


@pytest.fixture(scope="session")
def save_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Gpt2], Path]:
    """A function that writes a small model with a tokenizer of its vocabulary and returns the new folder."""

    def save(gpt2: Gpt2) -> Path:
        folder = write_checkpoint(tmp_path_factory.mktemp("gpt2"), gpt2)
        byte_level_tokenizer(gpt2.config["vocab_size"]).save(str(folder / "tokenizer.json"))
        names = {f"{kind}_token": END_OF_TEXT for kind in ("bos", "eos", "unk")}
        settings = {"tokenizer_class": "GPT2Tokenizer", "model_max_length": gpt2.config["n_positions"]}
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | names))
        return folder

    return save


@pytest.fixture(scope="session")
def tiny_folder(tiny: Gpt2, save_folder: Callable[[Gpt2], Path]) -> Path:
    """The tiny model as a Hugging Face folder. Its tokenizer knows ASCII only."""
    return save_folder(tiny)


@pytest.fixture(scope="session")
def wide_folder(wide: Gpt2, save_folder: Callable[[Gpt2], Path]) -> Path:
    """The wide model as a Hugging Face folder. Its tokenizer knows every byte."""
    return save_folder(wide)


@pytest.fixture(scope="session")
def small_shape_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights of DialoGPT-small's shape in float16, as its files are, without a tokenizer (250 MB)."""
    sizes = {"vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12}
    gpt2 = random_gpt2(gpt2_config(**sizes), seed=2, gain=2.0, end_lift=3.5)
    folder = write_checkpoint(tmp_path_factory.mktemp("small-shape"), gpt2, np.float16)
    yield folder
    shutil.rmtree(folder)
