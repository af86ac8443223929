"""SPIN, self-play fine-tuning (arXiv:2401.01335, section 4 and algorithm 1).

For each prompt of a set with human answers, the last round's model writes an answer of its own, the
opponent's move. The human answer is chosen, the model's rejected; nothing is judged, and all pairs are
kept but those where the model wrote the human answer itself: their loss has no gradient that could tell
the two apart. An answer that was cut off stays the opponent's, as in the authors' code: nobody is to write
like it. The main player is then trained with the logistic loss, which is DPO's with the opponent
as the reference (eq. 4.7), and is the opponent of the next round.

Defaults after section 6.1: lambda = 0.1, and from the second round on the pairs of the round before are
added to the new ones (`carry_rounds: 1` in the recipe). The opponent draws from its own distribution
(temperature 1, top_p 1), at most 256 tokens, in the authors' code (uclaml/SPIN, generate_vllm.py); how long
answers may be is `max_new_tokens` here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from autoalign.algorithms._drawing import problem_unless_cut_off
from autoalign.algorithms._job import Job
from autoalign.algorithms._made import Dropped, Made, Pair
from autoalign.synthesis import Ask

MAKES = "pairs"
TRAINING = {"loss_type": ["sigmoid"], "beta": 0.1}
REASON = "chosen is the human answer, rejected the model's own"


@dataclass(frozen=True)
class Options:
    """What may be set; `temperature` of the opponent's answers, 1: from its own distribution."""

    temperature: float = 1.0


def run(job: Job, options: Options) -> Iterator[Made]:
    """A pair for each prompt that came with an answer."""
    for batch in job.batches():
        played = [prompt for prompt in batch if prompt.answer]
        asks = [
            Ask(f"{prompt.id}/opponent", prompt.messages, temperature=options.temperature)
            for prompt in played
        ]
        replies = dict(zip((prompt.id for prompt in played), job.generate(asks), strict=True))
        for prompt in batch:
            reply = replies.get(prompt.id)
            if reply is None or not prompt.answer:
                yield Dropped(prompt.id, prompt.id, "the prompt has no human answer")
            elif (problem := problem_unless_cut_off(reply)) is not None:
                yield Dropped(prompt.id, prompt.id, f"answer: {problem}")
            elif reply.text == prompt.answer.strip():
                yield Dropped(prompt.id, prompt.id, "the model wrote the human answer itself")
            else:
                yield Pair(
                    prompt.id,
                    prompt.id,
                    prompt.messages,
                    prompt.answer,
                    reply.text,
                    REASON,
                    {"round": job.round},
                )
