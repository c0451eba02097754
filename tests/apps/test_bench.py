"""Does a benchmark say all that it promises? What it measures is no test's business."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from dialocpp import Model
from dialocpp.benchmark import SHAPES, measure_roofs, write_random_model
from dialocpp.benchmark.random_model import shape_config
from dialocpp.benchmark.work import token_work
from dialocpp.checkpoint.config import ModelConfig
from dialocpp.cli.bench import bench

PEERS = Path(__file__).parents[2] / "bench" / "peers"

COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "latency": (
        ["--prompt-tokens", "4", "--new-tokens", "4", "--prefill-tokens", "8"],
        {"ttft_ms", "prefill_tokens_per_s", "decode_tokens_per_s", "ms_per_token_p50", "ms_per_token_p99"},
    ),
    "throughput": (
        ["--sequences", "3", "--prompt-tokens", "4", "--new-tokens", "4"],
        {"sequences", "decode_tokens_per_s", "total_tokens_per_s"},
    ),
    "chat": (
        ["--turns", "4", "--message-tokens", "3", "--reply-tokens", "3"],
        {"ttft_ms", "last_to_second", "history_tokens", "dropped_turns", "decode_tokens_per_s"},
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_json_has_what_was_measured_and_where(name: str, wide_folder: Path) -> None:
    arguments, fields = COMMANDS[name]
    result = CliRunner().invoke(bench, [name, str(wide_folder), "--runs", "1", "--json", *arguments])
    assert result.exit_code == 0, result.output
    content = json.loads(result.output)
    assert content["benchmark"] == name
    assert fields <= content["result"].keys()
    assert {"cpu", "isa", "cpu_features", "dialocpp", "numpy"} <= content["machine"].keys()
    assert content["model"]["dtype"] == "int8"
    assert len(content["model"]["logits_sha256"]) == 64
    assert content["rates"]["decode_gb_s"] > 0
    assert content["roofs"]["read_gb_s"] > 0
    assert content["peak_rss_bytes"] > 10**6
    assert str(wide_folder) not in result.output, "a result names no folder of the machine"


def test_table_for_people(wide_folder: Path) -> None:
    arguments = ["latency", str(wide_folder), "--runs", "1", *COMMANDS["latency"][0]]
    result = CliRunner().invoke(bench, arguments)
    assert result.exit_code == 0, result.output
    assert "tokens/s" in result.output
    assert "GB/s" in result.output


def test_logits_hash_tells_models_apart(wide_folder: Path) -> None:
    hashes = []
    for dtype in ("int8", "int8", "float32"):
        arguments = ["latency", str(wide_folder), "--dtype", dtype, "--runs", "1", "--json"]
        result = CliRunner().invoke(bench, [*arguments, *COMMANDS["latency"][0]])
        hashes.append(json.loads(result.output)["model"]["logits_sha256"])
    assert hashes[0] == hashes[1] != hashes[2]


def test_too_long_for_the_window_is_refused(wide_folder: Path) -> None:
    result = CliRunner().invoke(bench, ["latency", str(wide_folder), "--new-tokens", "1000"])
    assert isinstance(result.exception, ValueError)
    assert "160 positions" in str(result.exception)


def test_random_model_loads_in_every_dtype(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "tiny", (1, 16, 2))
    folder = write_random_model(tmp_path / "random", "tiny")
    for dtype in ("float32", "int8"):
        model = Model.from_pretrained(folder, dtype=dtype)
        assert model.tokenizer.vocab_size == model.config.vocab_size == 50257
        assert model.tokenizer.decode(model.tokenizer.encode("Wie geht's? 😀")) == "Wie geht's? 😀"
        assert np.isfinite(model.logits([1, 2, 3])).all()
    with pytest.raises(ValueError, match="small, medium, large"):
        write_random_model(folder, "huge")


def test_work_of_the_shapes() -> None:
    # Parameters of GPT-2 small without its positions, biases and norms.
    work = token_work(ModelConfig.from_dict(shape_config("small")), "int8")
    assert work.bytes_per_step == 124_439_808 - 1024 * 768 - 12 * (4 * 768 + 9 * 768) - 2 * 768
    assert work.decode_operations(0) == 2 * work.bytes_per_step
    assert work.prefill_operations(1) == work.decode_operations(1)


def test_roofs_are_positive() -> None:
    roofs = measure_roofs(1)
    assert roofs.read_gb_s > 0
    assert roofs.gop_s("int8") > 0 and roofs.gop_s("float32") > 0


def test_a_peer_that_fails_stays_in_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PEERS))
    monkeypatch.delitem(sys.modules, "summary", raising=False)
    from summary import summarise

    def record(peer: str, **values: Any) -> dict[str, Any]:
        return {"peer": peer, "round": 1, **values}

    rows = summarise(
        [
            record("dialocpp int8", decode=[40.0], cold_start_s=0.1),
            record("dialocpp int8", decode=[50.0, 60.0], cold_start_s=0.2),
            record("openvino int8", decode=[20.0], cold_start_s=0.4),
            record("ctranslate2 int8", error="is not set up"),
        ]
    )
    own, openvino, ctranslate2 = rows
    assert (own.cells["decode"].best, own.cells["decode"].median) == (60.0, 50.0)
    assert openvino.cells["decode"].ratio == 3.0
    assert openvino.cells["cold_start_s"].ratio == 4.0
    assert ctranslate2.cells == {}
    assert ctranslate2.error == "is not set up"
