"""Texts that tell tokenizers apart, and a small tokenizer as the two files that GPT-2's came in."""

import json
from pathlib import Path

from small_models import END_OF_TEXT, byte_level_tokenizer

STRINGS = [
    "",
    " ",
    "Hello, how are you?",
    " leading and trailing ",
    "tabs\tand\n\nnewlines\r\n   and    runs",
    "I'm, you're, we'll, it's; DON'T",
    "numbers 1234567890 3.14 1e-5",
    "naïve café, Ünïcödé, ﬁ ligature, ①",
    "日本語のテキスト、中文，한국어",
    "emoji 😀 👨‍👩‍👧‍👦 🏳️‍🌈 🇩🇪",
    "עברית العربية हिन्दी",
    "control \x00\x01\x07\x7f characters",
    "replacement \ufffd and private \ue000 and \U0010ffff",
    "<|endoftext|>",
    "a<|endoftext|>b <|endoftext|> c<|endoftext|><|endoftext|>",
    "<|endof text|> <|endoftext <|ENDOFTEXT|>",
    "x" * 5000,
    "word " * 1000,
]


def write_tables(folder: Path, **settings: object) -> Path:
    """vocab.json and merges.txt of 301 tokens, end-of-text last; settings go to tokenizer_config.json."""
    model = json.loads(byte_level_tokenizer(301).to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"] | {END_OF_TEXT: 300}))
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(pairs) + "\n")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
