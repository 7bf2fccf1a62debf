#!/usr/bin/env bash
# Shows that the tests reach every line of src/plan/ and src/run/: prints the share of lines and of regions of each file, every line that no
# test ran, and fails where such a line does not say why.
#
#   .ci/coverage.sh [CARGO TEST OPTIONS...]     suites that plan, unless options name others
#
# A line that no test can run says so in a comment on it, `unreached: why`. PROPTEST_CASES, 64 unless set, scales the cases.
# Kernels are not instrumented: they would take an hour to compile.
set -euo pipefail

# cargo calls this script in place of the compiler, for the crates of the workspace
if [[ ${1-} == *rustc* && ${COVERAGE_OF-} ]]; then
    case " $* " in
        *" --crate-name sepconv_kernels "*) exec "$@" ;;
        *) exec "$@" -C instrument-coverage ;;
    esac
fi

cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
tools=$(rustc --print sysroot)/lib/rustlib/$host/bin
[ -x "$tools/llvm-cov" ] || rustup component add llvm-tools

export CARGO_INCREMENTAL=0 COVERAGE_OF=src/plan:src/run PROPTEST_CASES=${PROPTEST_CASES:-64}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/coverage
export RUSTC_WORKSPACE_WRAPPER=$PWD/.ci/coverage.sh
profiles=$CARGO_TARGET_DIR/profiles
rm -rf "$profiles"
mkdir -p "$profiles"

if [ $# -eq 0 ]; then
    set -- --lib
    for suite in planner blocks operators guard_pages models wrong_input failing_allocator allocation; do
        set -- "$@" --test "$suite"
    done
fi
cargo test --quiet -p sepconv --all-features --no-run "$@"
# where the tests are, for llvm-cov
cargo test -p sepconv --all-features --no-run --message-format=json "$@" 2>/dev/null |
    python3 -c '
import json, sys
for line in sys.stdin:
    executable = json.loads(line).get("executable")
    if executable: print(f"--object={executable}")' >"$profiles/objects"
LLVM_PROFILE_FILE=$profiles/%p-%m.profraw cargo test --quiet -p sepconv --all-features "$@"

"$tools/llvm-profdata" merge --sparse --failure-mode=all "$profiles"/*.profraw -o "$profiles/all.profdata"
mapfile -t objects <"$profiles/objects"
"$tools/llvm-cov" export --format=text --instr-profile "$profiles/all.profdata" "${objects[@]}" \
    --sources ${COVERAGE_OF//:/ } >"$profiles/coverage.json"
python3 .ci/coverage.py "$profiles/coverage.json" ${COVERAGE_OF//:/ }
