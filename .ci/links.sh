#!/usr/bin/env bash
# Links that lead nowhere, in Markdown and in what rustdoc makes of the two crates. No network is asked.
set -euo pipefail
cd "$(dirname "$0")/.."

doc=${CARGO_TARGET_DIR:-target}/doc
# pages of items that are gone would stay
rm -rf "$doc"/sepconv "$doc"/sepconv_kernels
RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps -p sepconv -p sepconv-kernels --all-features
python3 .ci/links.py README.md CONTRIBUTING.md CHANGELOG.md kernels/README.md docs "$doc/sepconv" "$doc/sepconv_kernels"
