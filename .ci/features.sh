#!/usr/bin/env bash
# Checks the library with each of its features alone, with none, and as a C library. No warning may come of what a
# feature leaves out.
set -euo pipefail
cd "$(dirname "$0")/.."

# the library with these features and no others
check() {
    printf -- '-- %s\n' "${1:-no features}"
    cargo clippy --quiet --lib -p sepconv --no-default-features --features "$1" -- -D warnings
}

features=$(cargo metadata --no-deps --format-version 1 |
    python3 -c 'import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == "sepconv":
        print(*(name for name in package["features"] if name != "default"))')
check ""
for feature in $features; do
    check "$feature"
done
# the C library with pools, and without
check capi,models,rayon,avx2
check capi,models,avx2,avx512,sse42
