#!/usr/bin/env bash
# Write every table that needs a GPU, in at most eight minutes on one card.
#
# Run: bash benchmarks/gpu.sh [--record]
#      SA2VA_SIZE=tiny bash benchmarks/gpu.sh runs the same commands on a CPU at tiny sizes, to try the script.
# A machine without a network: run benchmarks/wheels.sh elsewhere and carry the folder .wheels; missing packages are
# installed from it for this run alone. OpenCV, which is large, must be installed there.
# A machine without a GPU is refused. Each part has its own time limit, cut to what is left of the eight minutes. With --record the tables go into
# RESULTS.md; that file and a log also go to $OUT where it is set.
set -u
cd "$(dirname "$0")/.."
size="${SA2VA_SIZE:-full}" python="${PYTHON:-python3}" budget=475 failed=()
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
log="${OUT:-$(mktemp -d)}/gpu.log"
mkdir -p "$(dirname "$log")"

if ! "$python" -c "import av, pycocotools, typer" 2>/dev/null && ls .wheels/*.whl >/dev/null 2>&1; then
    site="$(mktemp -d)"
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" .wheels/*.whl || exit 1
    export PYTHONPATH="$PYTHONPATH:$site"
fi

if [ "$size" = full ] && ! "$python" -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
    echo "$python finds no GPU (torch.cuda.is_available()); SA2VA_SIZE=tiny bash benchmarks/gpu.sh runs on a CPU" >&2
    exit 2
fi

# part SECONDS SCRIPT ARGUMENT...: run one benchmark within its limit. A missed bar is a result, not a failure.
part() {
    local limit="$1" script="$2" start=$SECONDS
    shift 2
    if [ "$size" = full ] && [ "$limit" -gt $((budget - SECONDS)) ]; then limit=$((budget - SECONDS)); fi
    if [ "$limit" -lt 15 ]; then
        echo "-- $script $*: skipped, no time left" | tee -a "$log"
        failed+=("$script $* (no time left)")
        return
    fi
    timeout "$limit" "$python" "benchmarks/$script" "$@" "${record[@]}" 2>>"$log.err" | tee "$log.part"
    local status=${PIPESTATUS[0]}
    cat "$log.part" >>"$log"
    grep -q '^## ' "$log.part" || failed+=("$script $* (exit status $status)")
    echo "-- $script $*: $((SECONDS - start)) s, exit status $status" | tee -a "$log"
}
record=("$@")

if [ "$size" = tiny ]; then
    part 300 peers.py --size tiny --dtype bfloat16 --row tile clip clips second
    for objects in 1 8; do
        part 300 video_speed.py --model hiera-tiny --side 256 --frames 9 --dtype float32 --objects $objects
    done
    part 600 video_speed.py --model hiera-tiny --side 256 --frames 20 --dtype float32 --objects 1 --compile
    part 300 train_step.py --batch 4 --repeats 1
    part 300 gaze_words.py
else
    video=(--model hiera-large --device cuda)
    part 80 peers.py --device cuda --dtype bfloat16 --row tile tiles objects clip clips second
    part 60 peers.py --device cuda --dtype bfloat16 --model ByteDance/Sa2VA-4B --row tile clip second
    for objects in 1 8 32; do part 30 video_speed.py "${video[@]}" --objects $objects; done
    part 90 video_speed.py "${video[@]}" --objects 1 --compile
    for objects in 8 32; do part 60 video_speed.py "${video[@]}" --objects $objects --compile; done
    part 30 train_step.py --device cuda --batch 128
    part 40 gaze_words.py --device cuda
fi

[ -n "${OUT:-}" ] && cp benchmarks/RESULTS.md "$OUT/"
echo "all parts: $SECONDS s; log: $log"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAILED: %s\n' "${failed[@]}"
    tail -n 20 "$log.err"
    exit 1
fi
