#!/usr/bin/env bash
# The tests under AddressSanitizer, with few cases each: what reads or writes outside, or after the end, of any allocation. Those that
# are left out run the same operators as guard_pages does, for other questions.
# SEPCONV_LEVELS names the levels that are compiled, as cargo features: all unless set. Arguments go to cargo test.
# Guard pages (kernels/tests/support/src/guard.rs) find what stays within an allocation of the allocator's but leaves the slice.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! rustup toolchain list | grep -q '^nightly'; then
    rustup toolchain install nightly --profile minimal
fi
target=$(rustc -vV | sed -n 's/^host: //p')
# with checks that are called, as in fuzz.sh
export RUSTFLAGS="-Zsanitizer=address -Cllvm-args=-asan-instrumentation-with-call-threshold=0"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/asan
# tests ask for more memory than there is, to see an error; leaks are the business of tests/failing_allocator.rs, since a test that
# counts allocations leaks its counters
export ASAN_OPTIONS=allocator_may_return_null=1:detect_stack_use_after_return=1:detect_leaks=0
# a hundredth of the cases: instrumented code is slow, and every way through it comes early
export PROPTEST_CASES=${PROPTEST_CASES:-3}
# the allocator's checks are what is asked for here; those of the standard library ran in the ordinary tests
export CARGO_PROFILE_TEST_DEBUG_ASSERTIONS=false CARGO_PROFILE_TEST_OVERFLOW_CHECKS=true
# a level takes as long to compile as all else
levels=${SEPCONV_LEVELS-avx512,avx2,sse42,common-bits}
if [ -n "${SEPCONV_LEVELS-}" ]; then export SEPCONV_REQUIRE_ISA=${SEPCONV_LEVELS//common-bits/scalar},scalar; fi
more=("$@")
run() { cargo +nightly test --target "$target" --no-default-features "$@" "${more[@]}"; }
run -p sepconv-kernels -p sepconv --features "sepconv/${levels//,/,sepconv/},sepconv/capi,sepconv/gemm,sepconv/models,sepconv/rayon,sepconv-kernels/std" \
    --test every_kernel --test packing --test failing_allocator --test guard_pages --test models --test pointwise_gemm \
    --test weights_errors --test wrong_input --test capi
# apart: beside the kernels' package it would compile all kernels once more, as a test that is empty
run -p sepconv --features "$levels,capi,gemm,models,rayon" --lib
