"""Which tokenizer does a BERT vocabulary describe? The family of Chinese GPT-2 chit-chat models has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from dialocpp.checkpoint.regular_file import read_text
from dialocpp.errors import CheckpointError

BERT_DEFAULTS = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def bert_tokenizer(path: Path, settings: dict[str, Any]) -> Tokenizer:
    """WordPiece with one token a line; settings as in tokenizer_config.json, defaults as in transformers."""
    lines = read_text(path).split("\n")
    if lines[-1] == "":
        lines.pop()
    vocabulary = {line.removesuffix("\r"): number for number, line in enumerate(lines)}
    unknown = settings.get("unk_token")
    unknown = unknown if isinstance(unknown, str) else BERT_DEFAULTS["unk_token"]
    if unknown not in vocabulary:
        raise CheckpointError(f"expected {unknown} in the vocabulary {path}, found no such line; download it again")
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown, max_input_chars_per_word=100))
    strip_accents = settings.get("strip_accents")
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=settings.get("tokenize_chinese_chars") is not False,
        strip_accents=strip_accents if isinstance(strip_accents, bool) else None,
        lowercase=settings.get("do_lower_case") is not False,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return tokenizer
