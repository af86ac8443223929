#!/usr/bin/env bash
# Trains MODEL_PATH on the preference pairs of DATA_PATH into OUTPUT_DIR. Further flags go to `autoalign-cli dpo`:
#
#   export MODEL_PATH=meta-llama/Meta-Llama-3-8B DATA_PATH=data/dummy_dpo.json OUTPUT_DIR=models/llama3-dpo
#   CONV_TEMPLATE=llama-3-instruct bash scripts/train_dpo.sh --num_train_epochs 2
exec "$(dirname "${BASH_SOURCE[0]}")/train.sh" dpo "$@"
