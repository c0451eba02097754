"""Which token ids do the two seed demos give on transformers, turn after turn?

Both decode greedily in float32. Beside the ids of a reply stands by how much each of them won: where another
implementation differs, this says whether float32 could tell the two choices apart at all.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


@dataclass(frozen=True)
class Turn:
    """One reply of transformers."""

    ids: list[int]  # with the end-of-text, if it was generated
    ended: bool  # by end-of-text, not by the limit on its length
    margins: list[float]  # for each id: its logit minus the second best
    limit: int  # how many new tokens were allowed


@dataclass(frozen=True)
class Peer:
    """A checkpoint folder as transformers loads it."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> "Peer":
        # Models of this size gain nothing from a second thread, and on a busy machine two of them wait:
        # 536 tokens of the demo model took 4 s with one thread and 37 to 119 s with two.
        torch.set_num_threads(1)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        return cls(model, AutoTokenizer.from_pretrained(folder))


def model_card_loop(peer: Peer, lines: Iterable[str], max_length: int = 1000) -> Iterator[Turn]:
    """microsoft/DialoGPT's card: history and reply together have at most `max_length` tokens."""
    return _converse(peer, lines, max_length=max_length)


def paddlenlp_loop(peer: Peer, lines: Iterable[str], max_new_tokens: int = 32) -> Iterator[Turn]:
    """PaddleNLP's card: at most 32 new tokens a turn. It samples with top_k=5; here it is greedy."""
    return _converse(peer, lines, max_new_tokens=max_new_tokens)


def _converse(peer: Peer, lines: Iterable[str], **length: int) -> Iterator[Turn]:
    """Both cards' loop. It ends with the lines, or before a turn that would not fit the model's positions."""
    eos = peer.tokenizer.eos_token
    history = torch.empty((1, 0), dtype=torch.long)  # (1, T)
    for line in lines:
        line_ids = peer.tokenizer.encode(line + eos, return_tensors="pt")
        history = torch.cat([history, line_ids], dim=-1)
        start = history.shape[-1]
        limit = length["max_new_tokens"] if "max_new_tokens" in length else length["max_length"] - start
        if limit < 1 or start + limit > peer.model.config.n_positions:
            return
        with torch.no_grad():
            output = peer.model.generate(
                history,
                **length,
                do_sample=False,
                pad_token_id=peer.tokenizer.eos_token_id,
                output_logits=True,
                return_dict_in_generate=True,
            )
        history = output.sequences
        ids = history[0, start:].tolist()
        ended = ids[-1] == peer.tokenizer.eos_token_id
        if not ended:  # the cards never meet this; without it the next turn would continue the cut one
            history = torch.cat([history, history.new_tensor([[peer.tokenizer.eos_token_id]])], dim=-1)
        best_two = [step[0].topk(2).values.tolist() for step in output.logits]
        yield Turn(ids, ended, [best - second for best, second in best_two], limit)
