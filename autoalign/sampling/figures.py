"""What a sampling job's answers come to, counted as they come; memory does not grow with their number."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from autoalign.sampling.messages import Answer

_MOST_BINS = 256


class Timeline:
    """Amounts over time, in at most 256 bins of equal width, which double as time goes on.

    Attributes:
        width: seconds of a bin.
        bins: what fell into each.
    """

    def __init__(self) -> None:
        self.width = 1.0
        self.bins: list[float] = []

    def add(self, second: float, amount: float) -> None:
        """`amount` came at `second`, counted from the beginning."""
        while second >= self.width * _MOST_BINS:
            self.width *= 2
            self.bins = [sum(self.bins[at : at + 2]) for at in range(0, len(self.bins), 2)]
        place = int(second / self.width)
        self.bins += [0.0] * (place + 1 - len(self.bins))
        self.bins[place] += amount


class Figures:
    """Counts of answers.

    Attributes:
        prompt_tokens, output_tokens: of all answers.
        lengths: how many answers have so many tokens.
        reasons: how many ended why; `error` for those that failed.
        tokens, rows: output tokens and answers over time, from the first one's second on.
    """

    def __init__(self) -> None:
        self.prompt_tokens = self.output_tokens = 0
        self.lengths: Counter[int] = Counter()
        self.reasons: Counter[str] = Counter()
        self.tokens, self.rows = Timeline(), Timeline()

    def add(self, answers: Iterable[Answer], second: float) -> None:
        """Answers that came `second` seconds after the engine was ready."""
        given = list(answers)
        self.reasons.update([answer.finish_reason for answer in given])
        made = [answer for answer in given if answer.error is None]
        lengths = [answer.completion_tokens for answer in made]
        self.lengths.update(lengths)
        self.prompt_tokens += sum([answer.prompt_tokens for answer in made])
        self.output_tokens += sum(lengths)
        self.rows.add(second, len(made))
        self.tokens.add(second, sum(lengths))

    def length(self, share: float) -> int:
        """The length that this share of the answers does not exceed (0 to 1, nearest rank)."""
        rank = max(1, -(-share * self.lengths.total() // 1))
        for length in sorted(self.lengths):
            rank -= self.lengths[length]
            if rank <= 0:
                return length
        return 0
