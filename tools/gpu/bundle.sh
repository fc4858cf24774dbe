#!/usr/bin/env bash
# Packs what a machine with a GPU but without Node and network needs beside this repository's files: Node itself, the
# built packages, their dependencies, the headers of Node-API.   tools/gpu/bundle.sh FOLDER [FILE...]
# Build first (npm run build). FILEs, such as recorded prompts, come along under FOLDER/files. tools/gpu/up.sh unpacks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
target=$1
shift
packages="packages/quantizer packages/kernels packages/memory packages/retrieval packages/evaluation apps/decoder"
dependencies="@huggingface/tokenizers @huggingface/jinja commander zod"

rm -rf "$target"
mkdir -p "$target/dist" "$target/modules" "$target/headers" "$target/files"
for package in $packages; do
  test -f "$package/dist/index.js" || { echo "$package is not built: npm run build" >&2; exit 1; }
  mkdir -p "$target/dist/$package"
  cp -r "$package/dist" "$target/dist/$package/"
done
for dependency in $dependencies; do
  mkdir -p "$target/modules/$(dirname "$dependency")"
  cp -rL "apps/decoder/node_modules/$dependency" "$target/modules/$dependency"
done
# What only editors and debuggers read.
find "$target/dist" "$target/modules" -type f \
  \( -name '*.map' -o -name '*.d.ts' -o -name '*.d.cts' -o -name '*.d.mts' \) -delete
rm -rf "$target/modules/zod/src" "$target/modules/zod/v3"
cp -rL packages/kernels/node_modules/node-api-headers/include "$target/headers/node"
mkdir "$target/headers/addon"
cp -L packages/kernels/node_modules/node-addon-api/*.h "$target/headers/addon/"

cp "$(command -v node)" "$target/node"
chmod u+w "$target/node"
strip --strip-all "$target/node"
xz -1 --threads=0 --force "$target/node"
[ $# -eq 0 ] || cp "$@" "$target/files/"
chmod -R u+w "$target"
du -sh "$target"
