"""The supervised objective: the answers' summed cross-entropy, as one module that engines wrap."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn

from autoalign.losses.cross_entropy import cross_entropy_sum, linear_cross_entropy_sum
from autoalign.training.answer_head import answer_head
from autoalign.training.batches import Batch
from autoalign.training.examples import Layout, Rows
from autoalign.training.lean_modules import make_again_instead_of_keeping
from autoalign.training.model import CAUSAL_LM
from autoalign.training.objective import ExampleSets
from autoalign.training.reporting import Reporter
from autoalign.training.task import Tables, TrainTask
from autoalign.training.world import World


class SupervisedModel(nn.Module):
    """A causal language model that maps a batch to its summed loss."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """Sum over supervised tokens of -log p(token), a float32 scalar."""
        head = answer_head(base_model(self.model))
        if head is None:
            return cross_entropy_sum(answer_logits(self.model, batch), batch.targets)
        loss: Tensor = head(answer_hidden(self.model, batch), linear_cross_entropy_sum, batch.targets)
        return loss


class SupervisedObjective:
    """Rows are examples; the loss is the mean over supervised tokens."""

    kind = CAUSAL_LM

    def examples(
        self, task: TrainTask, tables: Tables, world: World, layout: Layout, reporter: Reporter
    ) -> ExampleSets:
        """The rows as they are."""
        return ExampleSets(Rows(tables.train), Rows(tables.evaluation) if tables.evaluation else None)

    def module(self, task: TrainTask, model: Any) -> SupervisedModel:
        """The model with its cross-entropy."""
        return SupervisedModel(model)

    def shared(self, *_: Any) -> Mapping[str, Any]:
        """Nothing: a micro-batch needs no more than its own rows."""
        return {}

    def figures(self, module: Any, world: World) -> dict[str, float]:
        """Nothing but the loss."""
        return {}


def answer_hidden(model: Any, batch: Batch) -> Tensor:
    """(supervised, width) hidden states that predict the answers' tokens; the head does not run."""
    # On a GPU activations may be on their way to the host's memory, by hooks of that kind too.
    on_cpu = batch.input_ids.device.type == "cpu"
    with make_again_instead_of_keeping() if on_cpu else nullcontext():
        hidden = base_model(model).get_decoder()(**model_inputs(batch)).last_hidden_state
    picked: Tensor = hidden.reshape(-1, hidden.shape[-1]).index_select(0, batch.predict_from)
    return picked


def answer_logits(model: Any, batch: Batch) -> Tensor:
    """(supervised, vocab) logits of the answers' tokens, by the model's own head."""
    if batch.row_lengths is not None:
        logits: Tensor = model(**model_inputs(batch), logits_to_keep=batch.predict_from).logits[0]
        return logits
    logits = model(**model_inputs(batch)).logits
    return logits.reshape(-1, logits.shape[-1]).index_select(0, batch.predict_from)


def base_model(model: Any) -> Any:
    """The transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def model_inputs(batch: Batch) -> dict[str, Any]:
    """What a transformers model takes of a batch; rows stay apart in either layout."""
    inputs: dict[str, Any] = {
        "input_ids": batch.input_ids,
        "attention_mask": batch.attention_mask,
        "use_cache": False,
    }
    if batch.row_lengths is not None:
        # Padded rows begin at 0, as models count by themselves, and some can't be told otherwise.
        inputs |= {"position_ids": batch.position_ids, "row_lengths": batch.row_lengths}
    if batch.share is not None:
        inputs["share"] = batch.share
    if batch.shared_lengths is not None:
        inputs["shared_lengths"] = batch.shared_lengths
    return inputs
