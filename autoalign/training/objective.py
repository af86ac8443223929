"""What a job minimises: how its rows become examples, and which module maps a batch to its loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from autoalign.config.dpo import DPOConfig
from autoalign.config.rm import RMConfig
from autoalign.training.batches import Batch
from autoalign.training.examples import Examples, Layout
from autoalign.training.model import ModelKind
from autoalign.training.reporting import Reporter
from autoalign.training.task import Tables, TrainTask
from autoalign.training.world import World

if TYPE_CHECKING:
    from autoalign.training.engines.base import Engine

TrainedModule = Any
"""An nn.Module that maps a batch to its summed loss; `.model` is what is trained and saved."""


class StepWork(NamedTuple):
    """What an optimizer step learns from: examples, and which of them each micro-batch holds."""

    examples: Examples
    parts: list[list[int]]


class LiveExamples(Protocol):
    """Examples that are made during the job, by the policy of the moment."""

    evaluates: bool
    """Whether there is something to evaluate on."""

    def step(self, step: int, sources: Sequence[int], engine: Engine) -> StepWork:
        """The work of a step, the same on every rank; all take part.

        Args:
            sources: the examples (prompts, say) that it is made from.
        """

    def figures(self) -> dict[str, float]:
        """What was measured in the last step."""

    def evaluate(self, step: int, engine: Engine) -> dict[str, float]:
        """Figures of the policy as it is, the same on every rank; all take part."""

    def is_midway(self, step: int) -> bool:
        """Whether the next step goes on with the same examples, so that nothing can be saved here."""

    def close(self) -> None:
        """Free what it holds."""


class ExampleSets(NamedTuple):
    """Examples to train on, and to evaluate with; those that are made on the way come from `live`."""

    train: Examples
    evaluation: Examples | None
    live: LiveExamples | None = None


class Objective(Protocol):
    """One kind of training."""

    kind: ModelKind
    """Which transformers class it trains."""

    def examples(
        self, task: TrainTask, tables: Tables, world: World, layout: Layout, reporter: Reporter
    ) -> ExampleSets:
        """The job's examples; all ranks take part.

        Raises:
            StoppedEarly: a stop was asked for while they were prepared.
        """

    def module(self, task: TrainTask, model: Any) -> TrainedModule:
        """The module that maps a batch to its loss."""

    def shared(
        self,
        evaluate: Callable[[Batch], float],
        examples: Examples,
        parts: Sequence[Sequence[int]],
        step: Sequence[int],
        layout: Layout,
        world: World,
    ) -> Mapping[str, Any]:
        """Fields of `Batch` that all micro-batches of a step share, found before them; all ranks take part.

        Args:
            evaluate: the module's sum over a batch, without gradients.
            parts: this rank's micro-batches.
            step: the examples of the whole step, over all workers.
        """

    def figures(self, module: TrainedModule, world: World) -> dict[str, float]:
        """Means of what `module` measured since the last call, over all ranks."""


def objective_of(task: TrainTask) -> Objective:
    """The objective that a job asks for."""
    if task.objective is not None:
        return task.objective()
    config = task.config
    if isinstance(config, DPOConfig) and config.data_kind == "unpaired":
        from autoalign.losses import preference
        from autoalign.training.unpaired import UnpairedObjective

        return UnpairedObjective(preference.build(config.loss_type).needs_kl)
    if isinstance(config, DPOConfig):
        from autoalign.training.preference import PreferenceObjective

        return PreferenceObjective()
    if isinstance(config, RMConfig):
        from autoalign.training.reward_model import RewardObjective

        return RewardObjective()
    from autoalign.training.supervised import SupervisedObjective

    return SupervisedObjective()
