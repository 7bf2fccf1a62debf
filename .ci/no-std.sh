#!/usr/bin/env bash
# Builds sepconv-kernels where there is no std: with a compiler that has nothing of the target but `core`.
#
# No target without std can be had on every machine, and `cargo check --no-default-features` alone would not tell whether a
# dependency takes std after all. So the target is the host's, and its folder of libraries holds what a bare one has.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
libraries=$(rustc --print target-libdir --target "$host")
sysroot=$(mktemp -d)
trap 'rm -rf "$sysroot"' EXIT
mkdir -p "$sysroot/lib/rustlib/$host/lib"
ln -s "$libraries"/libcore-* "$libraries"/libcompiler_builtins-* "$sysroot/lib/rustlib/$host/lib/"

# by --target, or the flags would also be those of build scripts, which have std
bare() {
    RUSTFLAGS="--sysroot $sysroot" CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/no-std \
        cargo check --quiet --target "$host" -p sepconv-kernels --no-default-features "$@"
}

bare
bare --features avx512,avx2,sse42,common-bits
# what is left out is left out: with the feature std it has to fail
if bare --features std 2>/dev/null; then
    echo "std was found where there is none: this check shows nothing" >&2
    exit 1
fi
echo "sepconv-kernels builds with core alone"
