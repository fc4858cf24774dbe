#!/usr/bin/env bash
# Builds the native programs into a folder, and the addon where PARISKV_HEADERS has the headers of Node-API.
#   tools/gpu/build.sh FOLDER [TARGET]        PARISKV_CUDA=OFF builds without CUDA, to try the scripts where no GPU is
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
folder=$1
target=${2:-all}
options=(-DPARISKV_CUDA="${PARISKV_CUDA:-ON}" -DPARISKV_TESTS=ON -DPARISKV_BENCHES=ON)
[ "${PARISKV_CUDA:-ON}" = OFF ] || options+=(-DCMAKE_CUDA_ARCHITECTURES="${PARISKV_CUDA_ARCHS:-native}")
if [ -n "${PARISKV_HEADERS:-}" ]; then
  options+=(-DPARISKV_NODE_API_INC="$PARISKV_HEADERS/node" -DPARISKV_ADDON_API_INC="$PARISKV_HEADERS/addon")
fi
if command -v ninja >/dev/null && [ ! -f "$folder/Makefile" ]; then options+=(-G Ninja); fi
cmake -S packages/kernels -B "$folder" "${options[@]}"
cmake --build "$folder" --parallel "$(nproc)" --target "$target"
