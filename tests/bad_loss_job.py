"""Run by torchrun: a job of 4 steps over all rows, whose loss is NaN on rank 1 at step 2.

torchrun --nproc-per-node 2 -m tests.bad_loss_job MODEL DATA OUTPUT DEEPSPEED
"""

import os
import sys

from autoalign.config.sft import SFTConfig
from autoalign.training.run import run
from autoalign.training.supervised import SupervisedModel


def spoil_rank_1() -> None:
    """The second forward pass of that rank."""
    forward, calls = SupervisedModel.forward, iter(range(1, 100))

    def spoiled(self, batch):
        loss = forward(self, batch)
        return loss * float("nan") if next(calls) == 2 and os.environ["RANK"] == "1" else loss

    SupervisedModel.forward = spoiled


if __name__ == "__main__":
    model, data, output, engine = sys.argv[1:]
    spoil_rank_1()
    run(
        SFTConfig(
            model_name_or_path=model,
            data_path=[data],
            output_dir=output,
            cache_dir=f"{output}-cache",
            conv_template_name="chatml",
            launcher="local",
            bf16=False,
            use_gpu=False,
            deepspeed=engine,
            max_steps=4,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            warmup_ratio=0.0,
            per_device_train_batch_size=12,
            group_by_length=False,
            on_bad_loss="skip",
        )
    )
