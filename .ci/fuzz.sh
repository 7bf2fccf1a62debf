#!/usr/bin/env bash
# Builds the fuzz targets and runs each for a minute, or for as many seconds as the first argument says.
#
#     .ci/fuzz.sh 9600        a night
#
# SEPCONV_LEVELS names the levels that are compiled, as cargo features: all unless set.
# What is found is in fuzz/artifacts/<target>/; fuzz/corpus/ grows from run to run, and is not committed.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}

if ! rustup toolchain list | grep -q '^nightly'; then
    rustup toolchain install nightly --profile minimal
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    cargo install --locked cargo-fuzz
fi

cargo fmt --manifest-path fuzz/Cargo.toml --check
# -O: what is checked beside the sanitizer is what fuzz/Cargo.toml says; without it all is, kernels too. Kernels are inlined whole into a few
# large functions: with the sanitizer's checks in place in them, not called, and as one unit, as cargo fuzz has it, they took a quarter
# of an hour; so they take two minutes.
export RUSTFLAGS="-Cllvm-args=-asan-instrumentation-with-call-threshold=0"
options=(-O --codegen-units 16 --no-default-features --features "${SEPCONV_LEVELS-avx512,avx2,sse42,common-bits}")
if [ -n "${SEPCONV_LEVELS-}" ]; then export SEPCONV_REQUIRE_ISA=${SEPCONV_LEVELS//common-bits/scalar},scalar; fi
cargo +nightly fuzz build "${options[@]}"
cargo +nightly fuzz run "${options[@]}" seeds
for target in describe run_differential graphs network_weights; do
    printf '\n== fuzzing %s for %s s\n' "$target" "$seconds"
    cargo +nightly fuzz run "${options[@]}" "$target" -- -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=512
done
