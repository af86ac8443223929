"""Steps that must not happen: a loss or a gradient that is not finite, or far over what is usual."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median

from autoalign.config.train import TrainConfig
from autoalign.errors import JobFailed
from autoalign.training.checkpoint import Progress
from autoalign.training.world import World


class BadStepGuard:
    """Asked by the engine before each update; all ranks get the same answer.

    With `loss_spike_factor` F a step is bad too when its loss or its gradient's norm is over F
    times the running median of the last `loss_spike_window` good steps. The rule waits until
    the window is full, and leaves a loss whose median is not positive alone.

    Attributes:
        problem: what is wrong with the step asked about last; None: it was taken.
        in_a_row: bad steps up to now without a good one between them.
        loss: of the last good step.
    """

    def __init__(self, config: TrainConfig, world: World, progress: Progress) -> None:
        self._config, self._world = config, world
        self._losses = deque(progress.recent_losses, maxlen=config.loss_spike_window)
        self._norms = deque(progress.recent_norms, maxlen=config.loss_spike_window)
        self.problem: str | None = None
        self.in_a_row = 0
        self.loss = math.nan

    @property
    def recent_losses(self) -> tuple[float, ...]:
        """What the spike rule knows, for the checkpoint; empty without the rule."""
        return tuple(self._losses)

    @property
    def recent_norms(self) -> tuple[float, ...]:
        """The same for the gradient's norm."""
        return tuple(self._norms)

    def accepts(self, step: int, loss: float, grad_norm: float) -> bool:
        """Whether 1-based `step` is taken.

        Args:
            loss: of the whole global batch.
            grad_norm: of the global gradient before clipping.

        Raises:
            JobFailed: it is bad and the policy is to stop, or it is one too many in a row.
        """
        problem = self._problem(loss, grad_norm)
        # A rank that takes a step which others skip would wait for them for ever.
        is_bad = self._world.any(problem is not None)
        self.problem = (problem or "another rank's loss or gradient is bad") if is_bad else None
        if is_bad:
            self.in_a_row += 1
            self._end_the_job_if_due(step)
            return False
        self.in_a_row, self.loss = 0, loss
        if self._config.loss_spike_factor is not None:
            self._losses.append(loss)
            self._norms.append(grad_norm)
        return True

    def _problem(self, loss: float, grad_norm: float) -> str | None:
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return f"loss {loss}, gradient norm {grad_norm}"
        return self._spike("loss", loss, self._losses) or self._spike("gradient norm", grad_norm, self._norms)

    def _spike(self, what: str, value: float, recent: Sequence[float]) -> str | None:
        factor = self._config.loss_spike_factor
        if factor is None or len(recent) < self._config.loss_spike_window:
            return None
        usual = median(recent)
        if usual <= 0 or value <= factor * usual:
            return None
        return f"{what} {value:.4g}, over {factor:g} times the median {usual:.4g} of the last {len(recent)}"

    def _end_the_job_if_due(self, step: int) -> None:
        config = self._config
        if config.on_bad_loss == "stop":
            raise JobFailed(
                f"step {step}: {self.problem}; nothing of it is saved. Lower learning_rate, look at the "
                "rows of this step with `data preview`, or pass over such steps with --on_bad_loss skip"
            )
        if self.in_a_row >= config.max_bad_steps:
            raise JobFailed(
                f"step {step}: {self.problem}; the last {self.in_a_row} steps were all bad (max_bad_steps), "
                "and nothing of them is saved. Lower learning_rate, or look at the rows with `data preview`"
            )
