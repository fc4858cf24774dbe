# Unpacks what tools/gpu/bundle.sh packed, in this working tree: Node, dependencies, built packages.
#   source tools/gpu/up.sh BUNDLE
# Afterwards `node` is on the PATH, and once tools/gpu/build.sh "$PARISKV_GPU_BUILD" has built the addon, PARISKV_ADDON
# names it. A tree that has been installed keeps what it has.
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bundle=$(cd "$1" && pwd) || return
export PARISKV_GPU_BUILD=${PARISKV_GPU_BUILD:-/tmp/pariskv-gpu}
export PARISKV_HEADERS=$bundle/headers PARISKV_ADDON=$PARISKV_GPU_BUILD/kernels.node
mkdir -p "$PARISKV_GPU_BUILD/bin"
if [ ! -x "$PARISKV_GPU_BUILD/bin/node" ]; then
  if command -v xz >/dev/null; then
    xz --decompress --stdout "$bundle/node.xz" >"$PARISKV_GPU_BUILD/bin/node.part"
  else
    python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), open(sys.argv[2], "wb"))' \
      "$bundle/node.xz" "$PARISKV_GPU_BUILD/bin/node.part"
  fi && chmod +x "$PARISKV_GPU_BUILD/bin/node.part" &&
    mv "$PARISKV_GPU_BUILD/bin/node.part" "$PARISKV_GPU_BUILD/bin/node" || return
fi
export PATH=$PARISKV_GPU_BUILD/bin:$PATH
if [ ! -e "$tree/node_modules" ] || [ -e "$tree/node_modules/.from-bundle" ]; then
  rm -rf "$tree/node_modules"
  cp -r "$bundle/modules" "$tree/node_modules"
  touch "$tree/node_modules/.from-bundle"
  mkdir -p "$tree/node_modules/@pariskv"
  for package in quantizer kernels memory retrieval evaluation; do
    ln -s "../../packages/$package" "$tree/node_modules/@pariskv/$package"
  done
  for package in packages/{quantizer,kernels,memory,retrieval,evaluation} apps/decoder; do
    rm -rf "$tree/$package/dist"
    cp -r "$bundle/dist/$package/dist" "$tree/$package/dist" || return
  done
fi
