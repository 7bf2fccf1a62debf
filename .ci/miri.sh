#!/usr/bin/env bash
# A few cases of every kernel under Miri, on scalar: what reads memory that nothing was written to, or reads and writes outside of an
# allocation, or leaves it by a pointer, ends the run. Arguments go to `cargo miri test`.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! rustup toolchain list | grep -q '^nightly'; then
    rustup toolchain install nightly --profile minimal
fi
if ! cargo +nightly miri --version >/dev/null 2>&1; then
    rustup component add --toolchain nightly miri rust-src
fi
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/miri
# tests read variables of the environment
export MIRIFLAGS="${MIRIFLAGS-} -Zmiri-disable-isolation"
cargo +nightly miri test --quiet -p sepconv-kernels --no-default-features --features std --test every_kernel --test packing "$@"
