#!/usr/bin/env bash
# The packages as they would be published: what is in them, that what is in them builds, and their links. Arguments go to
# `cargo publish`, such as --allow-dirty for a tree with changes.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
packages=$target/package
rm -rf "$packages"
# without the build of its own, which compiles every kernel: `check` below finds what is missing as well
said=$(cargo publish --workspace --dry-run --no-verify "$@" 2>&1) || { echo "$said" >&2; exit 1; }
# it may warn of uploads that are not done, and of tests, which stay here
if grep '^warning' <<<"$said" | grep -Ev '^warning: (aborting upload due to dry run$|ignoring test )'; then
    echo "$said" >&2
    exit 1
fi

cargo package --quiet -p sepconv -p sepconv-kernels --no-verify "$@" 2>/dev/null

fail() { echo "$*" >&2; exit 1; }
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
for package in sepconv sepconv-kernels; do
    # by today's date: cargo would take those in the archive, which are always the same, for files that it has checked
    tar -xzmf "$packages/$package-$version.crate" -C "$packages"
    for file in README.md LICENSE-MIT LICENSE-APACHE; do
        [ -f "$packages/$package-$version/$file" ] || fail "$package: $file is missing"
    done
done
sepconv=$packages/sepconv-$version
kernels=$packages/sepconv-kernels-$version
foreign=$(cd "$packages" && find sepconv*/ \( -name '.ci' -o -name '*.svg' -o -name '*.py' -o -name '*.sh' \) -o -path 'sepconv*/tests*')
[ -z "$foreign" ] || fail "files that a package is not for: $foreign"
python3 .ci/links.py --package "$sepconv" "$kernels"

# on its own, beside the other as a registry would have it
cat >"$packages/Cargo.toml" <<EOF
[workspace]
members = ["sepconv-$version", "sepconv-kernels-$version"]
resolver = "3"
[patch.crates-io]
sepconv-kernels = { path = "sepconv-kernels-$version" }
# as the repository has it, so that dependencies need not be checked once more
[profile.dev.package."*"]
debug = false
EOF
cp Cargo.lock "$packages/"
check() { cargo check --quiet --manifest-path "$packages/Cargo.toml" "$@"; }
check --workspace --all-features --tests
check -p sepconv --no-default-features
echo "packages of version $version: what they hold builds"
