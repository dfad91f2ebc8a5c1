#!/usr/bin/env bash
# vLLM on a CPU with the tiny model, on 127.0.0.1 and in the foreground; vllm.md says how to get there.
# usage: serve_vllm.sh VENV ENCODINGS MODEL PORT [more arguments for vllm serve]
#   VENV       a virtual environment with vLLM
#   ENCODINGS  a folder that holds o200k_base.tiktoken
#   MODEL      the folder that hf_folder.py wrote
set -euo pipefail
venv=$1 encodings=$2 model=$3 port=$4
shift 4
# No download, no telemetry.
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export TIKTOKEN_ENCODINGS_BASE=$encodings    # openai-harmony would fetch its vocabulary
export VLLM_SYSTEM_START_DATE=2026-01-01     # the date stands before the policy: pin it
# One small core is enough: 1 GiB of cache, no pinning of threads.
export VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=1
# float32: the weights are set for clear margins, not for bfloat16's eight bits.
exec "$venv/bin/vllm" serve "$model" --host 127.0.0.1 --port "$port" \
  --served-model-name tiny-gpt-oss --dtype float32 --max-model-len 4096 --max-num-seqs 4 \
  --enforce-eager --enable-prompt-tokens-details "$@"
