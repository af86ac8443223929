"""Preference losses, one file each, found by file name.

A file holds `Options` (a frozen dataclass, its own options alone), `NEEDS_REFERENCE` and
`loss(logps: PairLogps, options: Options) -> Tensor (batch,)`. It may also hold:

- `UNPAIRED = True`: `loss` takes a `KTOBatch`;
- `NEEDS_KL = True`: of that, it looks at `kl`;
- `NEEDS_COLLISIONS = True`: it looks at `chosen_collisions` and `rejected_collisions`;
- `COUPLES_ROWS = True`: a row's loss depends on the other rows of its batch;
- `PER_TOKEN_REWARDS = True`: its reward is the mean over tokens, not the sum;
- `initial_state()`: `loss` then takes a state as its third argument and returns `Stateful`.

`build` makes an `Objective` of one name or of several with weights.
"""

from autoalign.losses.preference._objective import (
    Objective,
    Outcome,
    Term,
    build,
    names,
)
from autoalign.losses.preference._running_mean import RunningMean, Stateful

__all__ = ["Objective", "Outcome", "RunningMean", "Stateful", "Term", "build", "names"]
