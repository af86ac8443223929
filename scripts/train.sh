#!/usr/bin/env bash
# What train_sft.sh and train_dpo.sh share: train.sh JOB [FLAGS...] with MODEL_PATH, DATA_PATH and OUTPUT_DIR set.
#
# On a machine with GPUs: one worker a GPU and ZeRO-3; elsewhere one worker. NUM_WORKERS and
# DEEPSPEED say otherwise.
set -euo pipefail

job="$1"
shift
for name in MODEL_PATH DATA_PATH OUTPUT_DIR; do
    if [[ -z "${!name:-}" ]]; then
        echo "error: $name is not set; for example:" >&2
        echo "  MODEL_PATH=models/smollm2-135m-instruct DATA_PATH=data/dummy_$job.json OUTPUT_DIR=outputs/$job bash scripts/train_$job.sh" >&2
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
exec "$cli" "$job" \
    --model_name_or_path "$MODEL_PATH" \
    --data_path "${data[@]}" \
    --output_dir "$OUTPUT_DIR" \
    --num_workers "$workers" \
    --deepspeed "$zero" \
    "$@"
