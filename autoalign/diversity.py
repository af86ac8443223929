"""How varied texts are: distinct-n, self-BLEU, and the spread of their embeddings."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from autoalign.words import words

_ORDERS = (1, 2, 3, 4)
_EPSILON = 0.1

Gram = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Diversity:
    """Figures of a group of texts, or means over several groups.

    Attributes:
        distinct_1, distinct_2: different words and pairs of words, as a share of all (0 to 1).
        self_bleu: mean BLEU-4 of each text against the others (0 to 1; 1: all alike).
        texts: how many were looked at.
    """

    distinct_1: float
    distinct_2: float
    self_bleu: float
    texts: int

    def __str__(self) -> str:
        distinct = f"distinct-1 {self.distinct_1:.3f}, distinct-2 {self.distinct_2:.3f}"
        return f"{distinct}, self-BLEU {self.self_bleu:.3f}"


def diversity(texts: Sequence[str]) -> Diversity:
    """The figures of one group of at least two texts."""
    cut = [words(text) for text in texts]
    return Diversity(_distinct(cut, 1), _distinct(cut, 2), _self_bleu(cut), len(texts))


def mean_diversity(groups: Iterable[Sequence[str]]) -> Diversity | None:
    """The means over groups (the answers to one prompt each); those of one text are left out."""
    each = [diversity(group) for group in groups if len(group) > 1]
    if not each:
        return None
    return Diversity(
        fmean(one.distinct_1 for one in each),
        fmean(one.distinct_2 for one in each),
        fmean(one.self_bleu for one in each),
        sum(one.texts for one in each),
    )


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Different n-grams as a share of all n-grams (Li et al., arXiv:1510.03055); 0 without any."""
    return _distinct([words(text) for text in texts], n)


def self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU-4 of each text against all others (Zhu et al., "Texygen", arXiv:1802.01886).

    BLEU of a sentence (Papineni et al. 2002) with equal weights, the closest reference length for the
    brevity penalty, and 0.1 in place of no match (Chen and Cherry 2014, method 1). Orders that a text is
    too short for are left out of its mean. 0 for fewer than two texts.
    """
    return _self_bleu([words(text) for text in texts])


def embedding_spread(vectors: Sequence[Sequence[float]]) -> float:
    """Mean cosine distance of all pairs: 0 all alike, 1 at right angles; at least two vectors, none of zeros.

    With unit vectors u, the sum over all pairs of u_i u_j is (|sum u|^2 - n) / 2, so no pair is looked at.
    """
    count = len(vectors)
    total = [0.0] * len(vectors[0])
    for vector in vectors:
        norm = math.sqrt(sum(x * x for x in vector))
        total = [sum_ + x / norm for sum_, x in zip(total, vector, strict=True)]
    return 1 - (sum(x * x for x in total) - count) / (count * (count - 1))


def _grams(tokens: Sequence[str], n: int) -> Counter[Gram]:
    return Counter(zip(*(tokens[start:] for start in range(n)), strict=False))


def _distinct(texts: Sequence[Sequence[str]], n: int) -> float:
    total: Counter[Gram] = Counter()
    for tokens in texts:
        total.update(_grams(tokens, n))
    return len(total) / total.total() if total else 0.0


def _self_bleu(texts: Sequence[Sequence[str]]) -> float:
    if len(texts) < 2:
        return 0.0
    counts = [[_grams(tokens, n) for tokens in texts] for n in _ORDERS]
    highest = [_two_highest(order) for order in counts]
    lengths = Counter(len(tokens) for tokens in texts)
    scores = []
    for place, tokens in enumerate(texts):
        precisions = [
            _precision(order[place], two) for order, two in zip(counts, highest, strict=True) if order[place]
        ]
        others = lengths - Counter([len(tokens)])
        scores.append(_bleu(precisions, len(tokens), list(others)))
    return fmean(scores)


def _two_highest(order: Sequence[Counter[Gram]]) -> dict[Gram, tuple[int, int]]:
    """For each n-gram the highest and the second-highest count in one text: what the others have at most."""
    found: dict[Gram, tuple[int, int]] = {}
    for grams in order:
        for gram, count in grams.items():
            first, second = found.get(gram, (0, 0))
            found[gram] = (count, first) if count > first else (first, max(second, count))
    return found


def _precision(grams: Counter[Gram], two: dict[Gram, tuple[int, int]]) -> float:
    matched = 0
    for gram, count in grams.items():
        first, second = two[gram]
        matched += min(count, second if count == first else first)
    return (matched or _EPSILON) / grams.total()


def _bleu(precisions: Sequence[float], length: int, others: Sequence[int]) -> float:
    if not precisions:
        return 0.0
    closest = min(others, key=lambda other: (abs(other - length), other))
    penalty = 1.0 if length >= closest else math.exp(1 - closest / length)
    return penalty * math.exp(fmean(math.log(precision) for precision in precisions))
