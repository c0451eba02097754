"""Does training teach, does it go on after a kill to the same weights, and does everybody open what it writes?"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from dialocpp import ChatSession, Model
from dialocpp.errors import CheckpointError
from dialocpp.training.checkpoints import Checkpoints
from dialocpp.training.finetune import Data, Run, finetune
from dialocpp.training.plan import Plan
from dialocpp.training.trainer import Progress
from safetensors.numpy import load_file

PLAN = Plan(steps=30, context=32, batch_tokens=256, learning_rate=3e-3, evaluate_every=10, save_every=5)


def quiet(progress: Progress) -> None: ...


@pytest.fixture(scope="module")
def dialogues(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small language with a rule: the reply names what the message named."""
    file = tmp_path_factory.mktemp("dialogues") / "things.jsonl"
    things = ["tea", "rain", "music", "cats", "books", "snow", "bread", "trains"]
    lines = [
        {"turns": [f"I like {a} and {b}.", f"Why do you like {a}?", "Who knows.", f"Then {b} it is."]}
        for a in things
        for b in things
        for _ in range(3)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


@pytest.fixture(scope="module")
def trained(dialogues: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float, float]:
    out = tmp_path_factory.mktemp("trained")
    run = Run(out, Data([(dialogues, 1.0)], valid_share=0.2), shape="tiny", vocab_size=400)
    finished = finetune(run, PLAN, quiet)
    return out, finished.outcome.before, finished.outcome.after


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def test_it_learns(trained: tuple[Path, float, float]) -> None:
    _, before, after = trained
    assert after < before / 4


def test_the_folder_opens_everywhere(trained: tuple[Path, float, float]) -> None:
    folder, *_ = trained
    ids = [5, 80, 200, 17, 3]
    ours = Model.from_pretrained(folder, dtype="float32").logits(ids)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        np.testing.assert_allclose(ours, theirs(torch.tensor([ids])).logits[0].numpy(), atol=1e-4)
    text = "I like tea."
    assert Model.from_pretrained(folder).tokenizer.encode(text) == (
        transformers.AutoTokenizer.from_pretrained(folder)(text)["input_ids"]
    )
    assert ChatSession.from_pretrained(folder, seed=1).reply(text).text
    card = (folder / "README.md").read_text()
    assert "things.jsonl" in card
    assert (folder / "training_curve.csv").read_text().count("\n") == 4
    assert (folder / "training_curve.png").stat().st_size > 0
    assert not (folder / ".training").exists()


def test_fine_tuning_goes_on_from_the_weights(trained: tuple[Path, float, float], dialogues: Path, tmp_path) -> None:
    folder, _, after = trained
    run = Run(tmp_path / "more", Data([(dialogues, 1.0)], valid_share=0.2), base=folder)
    outcome = finetune(run, PLAN, quiet).outcome
    assert outcome.before == pytest.approx(after, rel=1e-3)
    assert outcome.after < outcome.before


PROGRAM = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from dialocpp.training.finetune import Data, Run, finetune
from dialocpp.training.plan import Plan
out, file, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
def report(progress):
    if progress.step == kill_at:
        os.kill(os.getpid(), 9)
plan = Plan(steps=30, context=32, batch_tokens=256, learning_rate=3e-3, evaluate_every=10, save_every=4, dropout=0.1,
            optimiser=sys.argv[4], ema=float(sys.argv[5]), accumulate=2)
finetune(Run(out, Data([(file, 1.0)], valid_share=0.2), shape="tiny", vocab_size=400), plan, report)
"""


@pytest.mark.parametrize(("optimiser", "ema"), [("adamw", 0.0), ("muon", 0.9)])
def test_a_killed_run_ends_in_the_same_weights(dialogues: Path, tmp_path: Path, optimiser: str, ema: float) -> None:
    def run(out: Path, kill_at: int) -> int:
        arguments = [str(out), str(dialogues), str(kill_at), optimiser, str(ema)]
        return subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=False).returncode

    assert run(tmp_path / "whole", -1) == 0
    for kill_at in (2, 9, 23):  # before the first checkpoint, between two, after two evaluations
        assert run(tmp_path / "killed", kill_at) == -signal.SIGKILL
    assert run(tmp_path / "killed", -1) == 0
    whole, killed = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert whole.keys() == killed.keys()
    for name, weight in whole.items():
        assert np.array_equal(weight, killed[name]), name


def test_another_plan_does_not_go_on_with_it(dialogues: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.step == 6:
            raise StopError

    run = Run(tmp_path, Data([(dialogues, 1.0)], valid_share=0.2), shape="tiny", vocab_size=400)
    with pytest.raises(StopError):
        finetune(run, PLAN, stop)
    other = Plan(**{**PLAN.__dict__, "learning_rate": 1e-3})
    with pytest.raises(ValueError, match=r"found one with another plan or other data; .*--restart"):
        finetune(run, other, quiet)
    again = Run(**{**run.__dict__, "restart": True})
    assert finetune(again, other, quiet).outcome.steps == 30


def test_a_full_disk_keeps_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path, "digest")
    checkpoints.save(3, {"weights": torch.ones(3)})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(4, {"weights": torch.zeros(3)})
    monkeypatch.undo()
    saved = checkpoints.load()
    assert saved is not None
    assert saved.step == 3
    assert saved.state["weights"].tolist() == [1, 1, 1]
    assert [path.name for path in checkpoints.folder.iterdir()] == ["state.pt"]


def test_patience_ends_a_run_and_keeps_its_best(trained: tuple[Path, float, float], dialogues: Path, tmp_path) -> None:
    folder, *_ = trained
    plan = Plan(steps=200, context=32, batch_tokens=256, learning_rate=0.3, evaluate_every=2, patience=2, warm_up=0)
    outcome = finetune(Run(tmp_path, Data([(dialogues, 1.0)], valid_share=0.2), base=folder), plan, quiet).outcome
    assert outcome.stopped_early
    assert outcome.steps < 200
    assert outcome.after == pytest.approx(np.exp(min(point.valid_loss for point in outcome.points)))


def test_int8_weights_cannot_be_trained(dialogues: Path, tmp_path: Path) -> None:
    from dialocpp.checkpoint.resolve import DEMO_FOLDER

    run = Run(tmp_path, Data([(dialogues, 1.0)]), base=DEMO_FOLDER)
    with pytest.raises(CheckpointError, match="int8 weights cannot be trained"):
        finetune(run, PLAN, quiet)


def test_fine_tuning_the_demo_model_on_one_source(shared: Path, tmp_path: Path) -> None:
    file = shared / "data" / "dialogues" / "chitchat.valid.jsonl.xz"
    valid = shared / "data" / "dialogues" / "chitchat.test.jsonl.xz"
    run = Run(tmp_path, Data([(file, 1.0)], valid), base=shared / "models" / "demo")
    plan = Plan(steps=12, context=128, batch_tokens=2048, learning_rate=5e-4, evaluate_every=12, save_every=12)
    outcome = finetune(run, plan, quiet).outcome
    assert outcome.after < outcome.before
