"""What do ROUGE-L and chrF say, by the libraries that keep them, where these are installed?"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np

from .metrics import Measure, Value, evaluated

NEEDED = {"ROUGE-L": "rouge_score", "chrF": "sacrebleu"}


def library_measures(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], samples: int = 1000
) -> dict[str, Value]:
    """Those of NEEDED whose library is there. ROUGE-L: F1 with stems, against the nearest reference, the mean of the
    replies, 0 to 1 (rouge-score). chrF: of all replies together, 0 to 100 (sacrebleu's default, chrF2), without margin.
    """
    found: dict[str, Value] = {}
    if find_spec("rouge_score"):
        found["ROUGE-L"] = evaluated(_rouge_l(hypotheses, references), len(hypotheses), samples)
    if find_spec("sacrebleu"):
        from sacrebleu.metrics.chrf import CHRF

        found["chrF"] = Value(float(CHRF().corpus_score(list(hypotheses), [list(r) for r in references]).score), None)
    return found


def _rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Measure:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    scores = np.array(
        [
            scorer.score_multi(list(texts), said)["rougeL"].fmeasure
            for said, texts in zip(hypotheses, zip(*references, strict=True), strict=True)
        ]
    )
    return lambda weights: float(weights @ scores / weights.sum())
