#!/usr/bin/env bash
# Runs the tests once more for every instruction set that the machine itself does not choose.
#
#   .ci/isas.sh [LEG...]       all of them unless some are named
#
#   sse42, scalar              on this CPU, plans capped by SEPCONV_MAX_ISA
#   nehalem, core2duo          on emulated CPUs without AVX2, and without SSE4.2: what is dispatched wrongly dies by SIGILL
#   cortex-a53, max            aarch64, on emulated CPUs: a small one without dotprod and fp16, and one with all but SVE
#
# Each leg names in SEPCONV_REQUIRE_ISA what has to run in it. PROPTEST_CASES, 256 for the full count, is set for each by what
# its CPU can do in a minute or two; one that is set already is left as it is. Binaries are built once for each architecture.
set -euo pipefail
cd "$(dirname "$0")/.."

# The tests of a leg: all of them on this CPU, or those that are named. What starts child processes stays on the host: qemu-user would run
# them there, and not on its CPU. An emulator takes many times as long, and is spared the tests of errors, allocations, threads and the
# conformance kit, where no instruction set makes a difference. Thresholds and strips of plans do differ: of the planner's tests, those that
# draw all thresholds run. Where kernels ran in an earlier leg, an emulated CPU can only differ in what is dispatched: there every kernel
# runs once more, and the digests of all operators.
computed="every_kernel operators blocks graphs signals numbers digests guard_pages pointwise_gemm capi"
dispatched="every_kernel digests capi"
tests() {
    local file
    if [ -n "$1" ]; then
        # shellcheck disable=SC2086 # the words are names
        printf -- '--test=%s\n' $1
        return
    fi
    for file in tests/*.rs kernels/tests/*.rs; do echo "--test=$(basename "$file" .rs)"; done
}

# leg: cargo's options, cap, what is required, cases, the emulator, and the suites, unless it is all of them
run() {
    local name=$1 options=$2 cap=$3 require=$4 cases=$5 emulator=$6 suites=${7-} began=$SECONDS
    printf '\n== %s: %s required, %s cases %s\n' "$name" "$require" "${PROPTEST_CASES:-$cases}" "${emulator:+by $emulator}"
    (
        [ -z "$cap" ] || export SEPCONV_MAX_ISA=$cap
        export SEPCONV_REQUIRE_ISA=$require PROPTEST_CASES=${PROPTEST_CASES:-$cases}
        if [ -n "$emulator" ]; then
            export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$emulator
            export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$emulator
        fi
        # shellcheck disable=SC2046,SC2086 # the words are arguments; the same packages and features each time, or cargo
        # would build anew
        cargo test --quiet --workspace --all-features $options $(tests "$suites")
        if [ "$suites" = "$computed" ]; then
            # shellcheck disable=SC2086 # the words are arguments
            PROPTEST_CASES=$(((PROPTEST_CASES + 1) / 2)) cargo test --quiet --workspace --all-features $options --test=planner -- by_all_thresholds
        fi
    )
    printf '== %s: %s s\n' "$name" $((SECONDS - began))
}

arm() {
    (
        source <(.ci/aarch64.sh env)
        # the compiler may not be the host's: in one folder they would throw away each other's work
        export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/aarch64
        # nobody debugs these binaries
        export CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_TEST_DEBUG=0
        run "$1" "--target aarch64-unknown-linux-gnu" "" neon,scalar 8 "qemu-aarch64 -cpu $2 -L /usr/aarch64-linux-gnu" "${3-}"
    )
}

[ $# -gt 0 ] || set -- sse42 scalar nehalem core2duo cortex-a53 max
for leg; do
    case $leg in
        # the ordinary tests ran every level that this CPU has; a few cases show that the cap holds, and what plans do below it
        sse42) run sse42 "" sse42 sse42,scalar 16 "" ;;
        scalar) run scalar "" scalar scalar 16 "" ;;
        nehalem) run nehalem "" "" sse42,scalar 8 "qemu-x86_64 -cpu Nehalem" "$dispatched" ;;
        core2duo) run core2duo "" "" scalar 8 "qemu-x86_64 -cpu core2duo" "$dispatched" ;;
        cortex-a53) arm cortex-a53 cortex-a53 "$computed" ;;
        max) arm max max,sve=off "$dispatched" ;;
        *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
    esac
done
