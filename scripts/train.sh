#!/usr/bin/env bash
# What train_sft.sh and train_dpo.sh share: train.sh JOB [FLAGS...] with MODEL_PATH, DATA_PATH and OUTPUT_DIR set.
#
# On a machine with GPUs: one worker a GPU and ZeRO-3; elsewhere one worker. NUM_WORKERS and
# DEEPSPEED say otherwise. CONV_TEMPLATE names the chat template (--conv_template_name); without it a
# tokenizer that has none of its own, a base model's, gets one by its tokens, and this is said.
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
[[ -x "$cli" ]] || cli="$(command -v autoalign-cli || echo autoalign-cli)"

# Names a template for a tokenizer without one; what can't be loaded is left for the job to explain.
fallback_template() {
    "$(dirname "$cli")/python" - "$MODEL_PATH" 2>/dev/null <<'EOF' || true
import sys
from autoalign import model_folder

tokenizer = model_folder.load_tokenizer(model_folder.find_tokenizer(sys.argv[1]))
if not tokenizer.chat_template:
    print("llama-3-instruct" if "<|eot_id|>" in tokenizer.get_vocab() else "chatml")
EOF
}

template=()
if [[ -n "${CONV_TEMPLATE:-}" ]]; then
    template=(--conv_template_name "$CONV_TEMPLATE")
elif [[ " $* " != *" --conv_template_name"[\ =]* && " $* " != *" --config"[\ =]* ]]; then
    name="$(fallback_template)"
    if [[ -n "$name" ]]; then
        echo "note: the tokenizer of $MODEL_PATH has no chat template; using $name. CONV_TEMPLATE names another" >&2
        template=(--conv_template_name "$name")
    fi
fi

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
    ${template[@]+"${template[@]}"} \
    "$@"
