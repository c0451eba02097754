"""How does one get a reverse model, P(source | reply), to rank replies by maximum mutual information (MMI)?

The recipe of the demo model with the turns of each dialogue in reverse order: a reply, end-of-text, what it answers,
end-of-text, and so on. It starts from the forward model's weights, which know the language already: minutes instead of
hours; `--from-scratch` starts from random ones. Needs torch and transformers (`pip install ".[test]"`).

    python bench/reverse_model.py --model ../shared/models/demo --data ../shared/data --out build/reverse --minutes 25
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

# How often a dialogue of each source is drawn; sources without a share-alike licence only.
WEIGHTS = {
    "personality-chat-friendly": 4.0,
    "chatterbot": 4.0,
    "meena": 6.0,
    "synthetic-persona-chat": 3.0,
    "topical-chat": 2.0,
    "self-dialogue": 1.0,
    "casino": 0.3,
    "taskmaster4": 0.3,
}
CHUNK_TOKENS = 192
BATCH_TOKENS = 4000
PEAK_RATE, WARM_UP = 1.5e-4, 0.05  # AdamW, linear warm-up over this share of the time, then cosine to a tenth
IGNORED = -100  # cross_entropy's mark of a target that does not count

Dialogue = list[str]
Chunk = list[int]


def read_dialogues(data: Path, source: str, split: str) -> list[Dialogue]:
    with lzma.open(data / "dialogues" / f"{source}.{split}.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["turns"] for line in lines]


def reversed_chunks(dialogue: Dialogue, tokenizer: Tokenizer, end_of_text: int) -> list[Chunk]:
    """The dialogue's turns, last one first, in chunks of at most CHUNK_TOKENS cut at turn borders."""
    chunks: list[Chunk] = [[]]
    for turn in tokenizer.encode_batch(dialogue[::-1], add_special_tokens=False):
        ids = [*turn.ids[: CHUNK_TOKENS - 1], end_of_text]
        if len(chunks[-1]) + len(ids) > CHUNK_TOKENS:
            chunks.append([])
        chunks[-1] += ids
    return chunks


def batches(chunks: list[Chunk]) -> list[list[Chunk]]:
    """Chunks of like length together, about BATCH_TOKENS a batch, padding included."""
    groups: list[list[Chunk]] = [[]]
    for chunk in sorted(chunks, key=len):
        if groups[-1] and len(chunk) * (len(groups[-1]) + 1) > BATCH_TOKENS:
            groups.append([])
        groups[-1].append(chunk)
    return groups


def training_batches(data: Path, tokenizer: Tokenizer, end_of_text: int, rng: random.Random) -> Iterator[list[Chunk]]:
    """Without end: dialogues are drawn by their source's weight."""
    dialogues, weights = [], []
    for source, weight in WEIGHTS.items():
        found = read_dialogues(data, source, "train")
        dialogues += found
        weights += [weight] * len(found)
    while True:
        drawn = rng.choices(dialogues, weights, k=128)
        shuffled = batches([chunk for one in drawn for chunk in reversed_chunks(one, tokenizer, end_of_text)])
        rng.shuffle(shuffled)
        yield from shuffled


def losses(model: GPT2LMHeadModel, batch: list[Chunk]) -> tuple[torch.Tensor, int]:
    """The sum of -log P over all tokens but each chunk's first, and their number."""
    width = max(map(len, batch))
    # Padding lies behind the tokens, where causal attention never looks: no mask is needed.
    ids = torch.tensor([chunk + [0] * (width - len(chunk)) for chunk in batch])  # (B, T)
    targets = torch.tensor([chunk[1:] + [IGNORED] * (width - len(chunk)) for chunk in batch])  # (B, T - 1)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(ids[:, :-1], use_cache=False).logits  # (B, T - 1, V)
    total = torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total, int((targets != IGNORED).sum())


@torch.no_grad()
def perplexity(model: GPT2LMHeadModel, chunks: list[Chunk], pause: Path | None) -> float:
    """exp of the mean -log P per token."""
    model.eval()
    total, count = 0.0, 0
    for batch in batches(chunks):
        wait_while(pause)
        loss, tokens = losses(model, batch)
        total, count = total + float(loss), count + tokens
    return math.exp(total / count)


def train(model: GPT2LMHeadModel, source: Iterator[list[Chunk]], minutes: float, pause: Path | None) -> None:
    optimiser = torch.optim.AdamW(model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.05)
    model.train()
    begin, seen, recent = time.process_time(), 0, 0.0
    for step, batch in enumerate(source):
        wait_while(pause)
        done = (time.process_time() - begin) / (60 * minutes)
        if done >= 1:
            break
        cosine = 0.55 + 0.45 * math.cos(math.pi * done)
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * min(done / WARM_UP, cosine)
        loss, tokens = losses(model, batch)
        (loss / tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        seen += tokens
        recent += (loss.item() / tokens - recent) / min(step + 1, 50)
        if step % 50 == 0:
            print(f"step {step}: {100 * done:.0f} %, {seen} tokens, loss {recent:.3f}", flush=True)


def wait_while(pause: Path | None) -> None:
    while pause is not None and pause.exists():
        time.sleep(1)


def save(model: GPT2LMHeadModel, forward: Path, out: Path, story: str) -> None:
    """A folder in DialoGPT's format: float16 safetensors with `transformer.` names beside the forward's tokenizer."""
    model.half().save_pretrained(out)
    for file in forward.iterdir():
        if file.is_file() and file.name not in ("README.md", "config.json", "model.safetensors"):
            shutil.copyfile(file, out / file.name)
    given = (forward / "README.md").read_text(encoding="utf-8")
    attribution = next(part for part in given.split("\n\n") if part.startswith("Attribution"))
    (out / "README.md").write_text(f"# A reverse model, P(source | reply)\n\n{story}\n\n{attribution}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the forward model's folder")
    parser.add_argument("--data", type=Path, required=True, help="the folder with dialogues/")
    parser.add_argument("--out", type=Path, required=True, help="the new model's folder")
    parser.add_argument("--minutes", type=float, default=25.0, help="of CPU time")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from-scratch", action="store_true", help="do not start from the forward model's weights")
    parser.add_argument("--pause-while", type=Path, metavar="FILE", help="rest between two steps while FILE exists")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    model = GPT2LMHeadModel.from_pretrained(options.model, dtype=torch.float32)
    if options.from_scratch:
        model = GPT2LMHeadModel(model.config)
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    end_of_text = model.config.eos_token_id
    held_out = [
        chunk
        for source, weight in WEIGHTS.items()
        if weight >= 1
        for dialogue in read_dialogues(options.data, source, "valid")
        for chunk in reversed_chunks(dialogue, tokenizer, end_of_text)
    ]
    before = perplexity(model, held_out, options.pause_while)
    print(f"reversed valid dialogues: perplexity {before:.2f} per token before", flush=True)
    source = training_batches(options.data, tokenizer, end_of_text, random.Random(options.seed))
    train(model, source, options.minutes, options.pause_while)
    after = perplexity(model, held_out, options.pause_while)
    story = (
        f"bench/reverse_model.py, {options.minutes:g} minutes of CPU time, seed {options.seed}, from "
        f"{'random' if options.from_scratch else 'the forward demo model’s'} weights. Perplexity per token of the "
        f"reversed valid dialogues: {before:.2f} before, {after:.2f} after."
    )
    save(model, options.model, options.out, story)
    print(story)


if __name__ == "__main__":
    main()
