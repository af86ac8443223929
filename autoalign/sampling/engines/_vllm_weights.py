"""What vLLM's workers do when an engine is given new weights, mixed into vLLM's own worker class."""

from __future__ import annotations

from typing import Any


class WeightLoading:
    """`collective_rpc` finds its methods by name; a plain folder name is all that crosses processes."""

    def take_weights(self, folder: str) -> None:
        """Read the folder's safetensors over the weights in memory.

        On a CPU, vLLM 0.29 packs a copy of each matrix for its kernels. Reloading packs those anew that
        it loads, but not an output layer that is tied to the embeddings, which has a copy of its own.
        """
        worker: Any = self
        worker.reload_weights(weights_path=folder)
        for layer in worker.get_model().modules():
            if type(layer).__name__ == "ParallelLMHead" and hasattr(layer, "cpu_linear"):
                layer.quant_method.process_weights_after_loading(layer)
