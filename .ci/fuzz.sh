#!/usr/bin/env bash
# Builds the fuzz targets and runs each for a minute, or for as many seconds as the first argument says.
#
#     .ci/fuzz.sh 9600        a night
#
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
# -O: what is checked beside the sanitizer is what fuzz/Cargo.toml says; without it all is, kernels too. As one unit, as cargo fuzz has
# it, the instrumented kernels keep one core busy for more than a quarter of an hour. In 16 the whole build took 14 minutes, on a busy
# machine: each kernel is inlined whole into one function, which units do not part.
options=(-O --codegen-units 16)
cargo run -q --manifest-path fuzz/Cargo.toml --example seeds &
seeds=$!
cargo +nightly fuzz build "${options[@]}"
wait "$seeds"
for target in describe run_differential network_weights; do
    printf '\n== fuzzing %s for %s s\n' "$target" "$seconds"
    cargo +nightly fuzz run "${options[@]}" "$target" -- -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -malloc_limit_mb=512
done
