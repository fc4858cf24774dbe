#!/usr/bin/env bash
# All that needs a GPU, in one command: builds, compares CUDA with the CPU backend, runs the sanitizers, measures.
#   tools/gpu/check.sh OUT [--bundle FOLDER] [PART...]
# Parts run in the order given (default: all, in the order of this file), each within its seconds; what a part has said
# is in OUT even when it is cut short. Those that need Node find it on the PATH, or in a bundle (tools/gpu/bundle.sh).
# PARISKV_LIST_LONG: more options of list-long.mjs, such as --samples 1, where time is short.
# OUT/results.jsonl has a line {"part", "result"} for every line of JSON that a part printed, and one with its time.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$1
shift
if [ "${1:-}" = --bundle ]; then
  source tools/gpu/up.sh "$2" || exit 1
  fixtures=$(ls "$2"/files/*.json.gz 2>/dev/null | head -n 1)
  shift 2
fi
build=${PARISKV_GPU_BUILD:=/tmp/pariskv-gpu}
device=${PARISKV_GPU_DEVICE:-cuda} # cpu tries this script where no GPU is
scale=${PARISKV_GPU_SCALE:-}       # small: the same, with little work
parts=${*:-build sanitize conformance list_long demo sanitized stages sdpa ingest hot_set driver_memory doctor long_zone memory long_memory}
mkdir -p "$out"
results=$out/results.jsonl
log=$out/log.txt

# within SECONDS COMMAND...: its lines of JSON into the results.
within() {
  local seconds=$1
  shift
  timeout --kill-after=5 "$seconds" "$@" 2>>"$log" | sed -un "s/^{.*\$/{\"part\":\"$part\",\"result\":&}/p" >>"$results"
}
small() { [ "$scale" = small ]; }
# program SECONDS NAME ARGUMENT...
program() {
  [ -x "$build/$2" ] || { echo "there is no $2 in $build" >>"$log"; return 1; }
  within "$1" "$build/$2" $([ "$device" = cpu ] && echo --cpu) "${@:3}"
}
# pariskv SECONDS ARGUMENT...
pariskv() { within "$1" node apps/decoder/dist/cli.js "${@:2}"; }

run_build() {
  timeout 150 tools/gpu/build.sh "$build" >"$out/build.txt" 2>&1 || { tail -n 30 "$out/build.txt"; return 1; }
}
# compare PART...: of the comparison with the CPU backend.
compare() {
  timeout 90 "$build/cuda_conformance" "$@" 2>&1 | tee -a "$out/conformance.txt" | tail -n 1
}
run_conformance() { compare dense pages stages hot decode far; }
# Memory, tapes and failures; fills the GPU's memory, so nothing else runs meanwhile.
run_memory() { compare device; }
# The sanitizers slow kernels down a hundredfold: the quick cases cover every kernel at small and odd sizes. This only
# starts them, side by side, so that parts can go on meanwhile that measure nothing; `sanitized` waits for them.
sanitizers=()
run_sanitize() {
  local tool
  for tool in memcheck racecheck initcheck synccheck; do
    timeout 280 compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/cuda_conformance" quick \
      >"$out/$tool.txt" 2>&1 &
    sanitizers+=($!)
  done
}
run_sanitized() {
  local process status=0
  for process in ${sanitizers[@]+"${sanitizers[@]}"}; do
    wait "$process" || status=1
  done
  sanitizers=()
  grep -HE "passed, .* failed|ERROR SUMMARY|RACECHECK SUMMARY" "$out"/{mem,race,init,sync}check.txt | sed "s|^$out/||"
  return $status
}
run_stages() { program 60 bench_cuda_stages $(small && echo --pool-mib 128 --runs 1 32x1); }
run_sdpa() { within 60 python3 tools/gpu/sdpa.py; }
run_ingest() { program 20 bench_cuda_ingest $(small && echo --layers 2); }
run_hot_set() { program 40 bench_cuda_hot_set; }
# Whole steps with records in memory of the driver's allocator, beside those of `stages` in managed memory.
run_driver_memory() { PARISKV_HOST_MEMORY=driver program 40 bench_cuda_stages $(small && echo --pool-mib 128 --runs 1 32x1 || echo 128x1); }
run_doctor() { pariskv 20 doctor --device "$device" --json; }
run_demo() {
  local status=0 on
  for on in "$device" cpu; do
    pariskv 60 demo --device "$on" --json $(small && echo --ctx-size 2048) || status=1
  done
  return $status
}
run_list_long() {
  local options=(--device "$device" ${fixtures:+--fixtures "$fixtures"} ${PARISKV_LIST_LONG:-})
  small && options=(--device "$device" --context 2048 --samples 1 --policies default)
  within 280 node tools/bench/list-long.mjs "${options[@]}"
}
run_long_zone() {
  local options=(--layers 1 --tokens 1048576 --check 0)
  small && options=(--layers 1 --tokens 65536 --check 0)
  within 60 node tools/bench/long-memory.mjs --device "$device" "${options[@]}"
}
run_long_memory() {
  local options=(--layers 28 --tokens 524288 --check 0,13,27)
  small && options=(--layers 2 --tokens 32768 --check 1)
  within 150 node tools/bench/long-memory.mjs --device "$device" "${options[@]}"
}

memory=$(grep -E '^(MemTotal|MemAvailable):' /proc/meminfo | tr -dc '0-9\n' | paste -sd,)
echo "{\"part\":\"machine\",\"result\":{\"cores\":$(nproc),\"totalAndAvailableKib\":[$memory]}}" >>"$results"
status=0
for part in $parts; do
  start=$(date +%s%N)
  echo "== $part" >>"$log"
  "run_$part"
  code=$?
  [ $code -eq 0 ] || status=1
  milliseconds=$((($(date +%s%N) - start) / 1000000))
  seconds=$((milliseconds / 1000)).$(printf %03d $((milliseconds % 1000)))
  echo "{\"part\":\"$part\",\"status\":$code,\"seconds\":$seconds}" >>"$results"
  printf '%-12s status %-3d %8s s\n' "$part" "$code" "$seconds"
done
[ ${#sanitizers[@]} -eq 0 ] || run_sanitized || status=1
echo "$SECONDS s in all"
[ $status -eq 0 ] || grep -v '%$' "$log" | tail -n 20
exit $status
