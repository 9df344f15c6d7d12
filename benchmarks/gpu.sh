#!/usr/bin/env bash
# Measure on a machine with a GPU, within a time limit: benchmarks/gpu.sh [GROUP...]
#   check      kernels against their references, then a smoke generation with the demo model
#   prefill    one layer's prefill by stage; the scheduler's cost per step
#   decode     whole prefills and decode steps with the 7B's dimensions against stock vLLM
#   capacity   a full KV cache of equal size against stock vLLM
#   decode-3b  as decode, with the 3B's dimensions
# Without a group: the first four, in this order, as far as the time goes.
# OUT: folder of the JSON files. LIMIT_S: seconds for everything. PYTHON: the interpreter.
# WINNOW_COMMIT: the commit to name in the results where the tree came without its .git.
# A stage that fails or runs out of time leaves a JSON file that says so, and the next one starts.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
OUT=${OUT:-benchmarks/results}
LIMIT_S=${LIMIT_S:-580}
PYTHON=${PYTHON:-python3}
# What a stage needs at its end to write its file.
MARGIN_S=${MARGIN_S:-20}

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=()

# stage CASE SECONDS [OPTION...]; an option may hold {limit}.
stage() {
    local name=$1 limit=$2 left=$((LIMIT_S - SECONDS - MARGIN_S)) status
    shift 2
    ((left < limit)) && limit=$left
    echo "== $name, at most $limit s"
    if ((limit > MARGIN_S)); then
        timeout -k 10 "$limit" "$PYTHON" -m benchmarks run "$name" --device cuda --out "$OUT" \
            "${@//\{limit\}/$((limit - MARGIN_S))}" 2>&1 | tee "$log"
        status=${PIPESTATUS[0]}
    else
        echo "No time is left." | tee "$log"
        status=124
    fi
    if ((status)); then
        failed+=("$name")
        "$PYTHON" -m benchmarks.gpu.failure "$name" "$status" "$log" "$OUT"
    fi
}

run_group() {
    case $1 in
    check)
        stage kernels 150
        stage smoke 400 --limit-s '{limit}'
        ;;
    prefill)
        stage prefill 150
        stage step_overhead 90 --num-layers 28 --num-requests 64
        ;;
    decode) stage decode 560 --limit-s '{limit}' ;;
    capacity) stage capacity 500 --limit-s '{limit}' ;;
    decode-3b) stage decode 400 --limit-s '{limit}' --model qwen2_5_vl_3b --max-context 65536 ;;
    esac
}

(($#)) || set -- check prefill decode capacity
for group in "$@"; do
    case $group in
    check | prefill | decode | capacity | decode-3b) ;;
    *)
        echo "There is no group '$group'. Choose from check, prefill, decode, capacity, decode-3b." >&2
        exit 2
        ;;
    esac
done
"$PYTHON" -m benchmarks.gpu.device || exit
mkdir -p "$OUT"
for group in "$@"; do
    run_group "$group"
done

echo "== targets"
"$PYTHON" -m benchmarks report --print --results "$OUT"
echo "Done after $SECONDS s. Failed: ${failed[*]:-nothing}."
((${#failed[@]} == 0))
