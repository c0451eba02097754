"""What does a run leave? A folder that transformers and dialocpp open, with its curve and its model card."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from transformers import GPT2LMHeadModel

from dialocpp.chat.session import ChatSession
from dialocpp.model import Model

from .new_model import copy_tokenizer
from .plan import Plan
from .trainer import Outcome, Point

CURVE, PLOT, CARD = "training_curve.csv", "training_curve.png", "README.md"


@dataclass(frozen=True)
class Story:
    """What the model card tells beside the figures."""

    base: str
    data: Sequence[str]
    licence: str | None
    reverse: bool


def save_model(model: GPT2LMHeadModel, tokenizer_folder: Path, out: Path) -> None:
    """Float32 safetensors in transformers' layout, and the tokenizer beside it; the weights come last."""
    out.mkdir(parents=True, exist_ok=True)
    copy_tokenizer(tokenizer_folder, out)
    model.save_pretrained(out)


def sample_replies(folder: Path, messages: Sequence[str], seed: int = 0) -> list[tuple[str, str]]:
    """What the new model says to each message, by the default of a session."""
    model = Model.from_pretrained(folder)
    return [(message, ChatSession(model, seed=seed).reply(message).text) for message in messages]


def write_curve(points: Sequence[Point], out: Path) -> None:
    """The losses as CSV, and as a picture where matplotlib is installed."""
    with (out / CURVE).open("w", newline="", encoding="utf-8") as file:
        rows = csv.DictWriter(file, list(Point.__dataclass_fields__))
        rows.writeheader()
        rows.writerows(asdict(point) for point in points)
    try:
        from matplotlib.figure import Figure  # no pyplot: no window, no global state
    except ImportError:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    tokens = [point.tokens / 1e6 for point in points]
    axes.plot(tokens, [point.train_loss for point in points], color="#9aa5b1", label="training")
    axes.plot(tokens, [point.valid_loss for point in points], color="#1f6feb", marker="o", ms=3, label="held out")
    axes.set_xlabel("million tokens")
    axes.set_ylabel("loss, nats per token")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out / PLOT, dpi=150)


def write_card(out: Path, story: Story, plan: Plan, outcome: Outcome, replies: Sequence[tuple[str, str]]) -> None:
    """README.md: where the model comes from, how it was trained, and how it speaks."""
    licence = story.licence or "not stated by whoever trained it"
    kind = "A reverse model, P(source | reply), for ranking" if story.reverse else "A dialogue model"
    lines = [
        "---",
        f"license: {story.licence or 'unknown'}",
        "library_name: dialocpp",
        "pipeline_tag: text-generation",
        "---",
        "",
        f"# {kind}",
        "",
        f"Trained by `dialocpp train` from {story.base}. Turns are separated by the end-of-text token, as in DialoGPT.",
        "",
        f"- Data: {'; '.join(story.data)}",
        f"- Licence of the data and the weights: {licence}",
        f"- Perplexity per token of held-out dialogues: {outcome.before:.2f} before, {outcome.after:.2f} after",
        f"- {outcome.steps} of {plan.steps} updates of {plan.batch_tokens:,} positions"
        + (", ended early" if outcome.stopped_early else ""),
        f"- Plan: {', '.join(f'{name} {value}' for name, value in asdict(plan).items())}",
        "",
    ]
    if replies:
        lines += ["| message | reply |", "|---|---|"]
        lines += [f"| {_cell(message)} | {_cell(reply)} |" for message, reply in replies]
        lines += [""]
    (out / CARD).write_text("\n".join(lines), encoding="utf-8")


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
