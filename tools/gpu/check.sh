#!/usr/bin/env bash
# Everything that needs a GPU and no Node, on a machine with nvcc: builds, compares CUDA with the CPU backend, runs the
# sanitizers, times the stages.   tools/gpu/check.sh OUT_FOLDER [conformance] [sanitize] [bench]
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
out=$1
shift
jobs=${*:-conformance sanitize bench}
build=${PARISKV_GPU_BUILD:-/tmp/pariskv-gpu}
mkdir -p "$out"

cmake -S packages/kernels -B "$build" -DPARISKV_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES=native -DPARISKV_TESTS=ON \
  -DPARISKV_BENCHES=ON >"$out/build.txt" 2>&1 &&
  cmake --build "$build" --parallel "$(nproc)" >>"$out/build.txt" 2>&1 || { tail -n 30 "$out/build.txt"; exit 1; }

status=0
for job in $jobs; do
  case $job in
    conformance)
      "$build/cuda_conformance" 2>&1 | tee "$out/conformance.txt" | tail -n 3 || status=1
      ;;
    sanitize)
      # The sanitizers slow kernels down a hundredfold: the quick cases cover every kernel at small and odd sizes.
      for tool in memcheck racecheck initcheck synccheck; do
        echo "== $tool"
        timeout "${PARISKV_SANITIZE_SECONDS:-150}" compute-sanitizer --tool "$tool" --error-exitcode 9 \
          "$build/cuda_conformance" device quick >"$out/$tool.txt" 2>&1 || status=1
        grep -E "passed, .* failed|ERROR SUMMARY|RACECHECK SUMMARY" "$out/$tool.txt" || tail -n 3 "$out/$tool.txt"
      done
      ;;
    bench)
      "$build/bench_cuda_stages" >"$out/stages.json" || status=1
      ;;
  esac
done
exit $status
