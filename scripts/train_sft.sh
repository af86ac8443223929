#!/usr/bin/env bash
# Fine-tunes MODEL_PATH on DATA_PATH into OUTPUT_DIR. Further flags go to `autoalign-cli sft`:
#
#   export MODEL_PATH=meta-llama/Meta-Llama-3-8B DATA_PATH=data/dummy_sft.json OUTPUT_DIR=models/llama3-sft
#   CONV_TEMPLATE=llama-3-instruct bash scripts/train_sft.sh --num_train_epochs 2
exec "$(dirname "${BASH_SOURCE[0]}")/train.sh" sft "$@"
