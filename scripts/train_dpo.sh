#!/usr/bin/env bash
# Trains MODEL_PATH on the preference pairs of DATA_PATH into OUTPUT_DIR. Further flags go to `autoalign-cli dpo`:
#
#   export MODEL_PATH=meta-llama/Meta-Llama-3-8B DATA_PATH=data/dummy_dpo.json OUTPUT_DIR=models/llama3-dpo
#   bash scripts/train_dpo.sh --conv_template_name llama-3-instruct --num_train_epochs 2
#
# On a machine with GPUs: one worker a GPU and ZeRO-3; elsewhere one worker. NUM_WORKERS and
# DEEPSPEED say otherwise.
set -euo pipefail

for name in MODEL_PATH DATA_PATH OUTPUT_DIR; do
    if [[ -z "${!name:-}" ]]; then
        echo "error: $name is not set; for example:" >&2
        echo "  MODEL_PATH=models/smollm2-135m-instruct DATA_PATH=data/dummy_dpo.json OUTPUT_DIR=outputs/dpo bash $0" >&2
        exit 2
    fi
done

here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cli="$here/.venv/bin/autoalign-cli"
[[ -x "$cli" ]] || cli=autoalign-cli

gpus="$( (nvidia-smi -L 2>/dev/null || true) | grep -c '^GPU' || true)"
if [[ "$gpus" -gt 0 ]]; then
    workers="${NUM_WORKERS:-$gpus}" zero="${DEEPSPEED:-zero3}"
else
    workers="${NUM_WORKERS:-1}" zero="${DEEPSPEED:-none}"
fi

read -r -a data <<<"$DATA_PATH"
exec "$cli" dpo \
    --model_name_or_path "$MODEL_PATH" \
    --data_path "${data[@]}" \
    --output_dir "$OUTPUT_DIR" \
    --num_workers "$workers" \
    --deepspeed "$zero" \
    "$@"
