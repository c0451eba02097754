"""Which files make up a checkpoint, and which of them hold its weights?"""

from __future__ import annotations

from pathlib import Path

from dialocpp.errors import CheckpointError, brief

from .json_file import read_json_object

CONFIG = "config.json"
GENERATION_CONFIG = "generation_config.json"
PACKED = "model.dialocpp.safetensors"

# One of these four holds the weights, the first that is there. An index names shards of the ending beside it.
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TORCH_SINGLE = "pytorch_model.bin"
TORCH_INDEX = "pytorch_model.bin.index.json"
WEIGHTS = (SINGLE, INDEX, TORCH_SINGLE, TORCH_INDEX)
_NAMED = 12  # of a list in an error
_SHARD_ENDING = {INDEX: ".safetensors", TORCH_INDEX: ".bin"}

TOKENIZER = "tokenizer.json"
VOCAB = "vocab.json"
MERGES = "merges.txt"
BERT_VOCAB = "vocab.txt"
SENTENCEPIECE = "spiece.model"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
# One of these is the tokenizer, the first that is there; the settings add special tokens and a chat template.
TOKENIZERS = ((TOKENIZER,), (VOCAB, MERGES), (BERT_VOCAB,), (SENTENCEPIECE,))
TOKENIZER_SETTINGS = (TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP, ADDED_TOKENS, "chat_template.jinja")
# What makes a folder a model's.
CHECKPOINT_FILES = (CONFIG, PACKED, *WEIGHTS, *(name for names in TOKENIZERS for name in names))
TOKENIZER_FILES = (*(name for names in TOKENIZERS for name in names), *TOKENIZER_SETTINGS)


def is_index(name: str) -> bool:
    """Whether this one of WEIGHTS names the files that hold the weights instead of being one."""
    return name in _SHARD_ENDING


def shard_names(index: Path) -> list[str]:
    """The shards that an index names; none of them may leave its folder."""
    ending = _SHARD_ENDING[index.name]
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: expected a weight_map from tensors to files, found none; download it again")
    for tensor, shard in weight_map.items():
        if not isinstance(shard, str) or not shard.endswith(ending) or any(c in shard for c in "/\\:\0"):
            raise CheckpointError(
                f"{index}: expected the plain name of a {ending} file beside it for {tensor[:100]}, "
                f"found {brief(shard)}; do not load this checkpoint"
            )
    return sorted(set(weight_map.values()))


def weight_files(folder: Path) -> list[Path]:
    """The files with a folder's weights: Hugging Face's names, else the one .pkl that Microsoft published."""
    found = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        return [_only_pkl(folder)]
    if not is_index(found):
        return [folder / found]
    names = shard_names(folder / found)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: expected every shard of {found}, found no {', '.join(missing[:_NAMED])}; download again"
        )
    return [folder / name for name in names]


def _only_pkl(folder: Path) -> Path:
    found = sorted(folder.glob("*.pkl"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found)
        raise CheckpointError(
            f"{folder}: expected the weights of one model, found {names}; leave one of them in the folder"
        )
    if (folder / PACKED).is_file():
        raise CheckpointError(
            f"{folder}: expected {', '.join(WEIGHTS)}, found only weights that are packed already; "
            "give the model from which they were made"
        )
    raise no_weights(str(folder))


def no_weights(where: str) -> CheckpointError:
    """The error for a folder or repo without weights that dialocpp can read."""
    return CheckpointError(
        f"{where}: expected {', '.join((*WEIGHTS, PACKED))}, found none of them; "
        "give the folder or repo that holds the weights"
    )
