#!/usr/bin/env bash
# The library for wasm32-unknown-unknown: scalar kernels, and the calling thread alone. std is taken where rustup has it, else it is built
# from its source, which is a component of the nightly toolchain.
set -euo pipefail
cd "$(dirname "$0")/.."

target=wasm32-unknown-unknown
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/wasm
if [ -d "$(rustc --print target-libdir --target $target)" ]; then
    cargo check --quiet --target $target -p sepconv --no-default-features --features models
else
    if ! rustup toolchain list | grep -q '^nightly'; then
        rustup toolchain install nightly --profile minimal
    fi
    [ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust" ] || rustup component add --toolchain nightly rust-src
    cargo +nightly check --quiet -Zbuild-std=std,panic_abort --target $target -p sepconv --no-default-features --features models
fi
echo "sepconv builds for $target"
