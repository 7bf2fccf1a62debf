#!/usr/bin/env bash
# What it takes to compile for 64-bit ARM, and to run the result, on an x86-64 machine with Debian.
#
#   .ci/aarch64.sh install     what is missing: linker and libraries for aarch64, qemu-user, a rustc that has std for aarch64
#   .ci/aarch64.sh env         prints what to set to compile: source <(.ci/aarch64.sh env)
#
# rustup's std for the target is taken where it is installed. Elsewhere the compiler is Debian's rustc-web; it and its std for
# both architectures are unpacked into one folder (SEPCONV_AARCH64_ROOT), and dpkg's own database is left alone.
# `install` needs root unless nothing is missing, and does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
root=${SEPCONV_AARCH64_ROOT:-${XDG_CACHE_HOME:-$HOME/.cache}/sepconv/aarch64}

native() { [ -d "$(rustc --print target-libdir --target $target 2>/dev/null)" ]; }

install() {
    export DEBIAN_FRONTEND=noninteractive
    local missing=()
    for package in gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    native || for package in libedit2 libffi8 libz3-4 libxml2 libzstd1 zlib1g; do # those of Debian's libLLVM
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        apt-get -o DPkg::Lock::Timeout=300 update -q
        apt-get -o DPkg::Lock::Timeout=300 install -qy --no-install-recommends "${missing[@]}"
    fi
    native || [ -x "$root/bin/rustc" ] || unpack
}

# Debian's rustc and both std packages of one build, in $root
unpack() {
    local work="$root.new" version std llvm
    rm -rf "$work"
    mkdir -p "$work"/apt/lists/partial "$work"/apt/cache/archives/partial "$work"/debs
    # a state of apt that knows of arm64
    cat >"$work/apt.conf" <<C
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "root";
Dir::State::lists "$work/apt/lists";
Dir::Cache "$work/apt/cache";
C
    (
        export APT_CONFIG="$work/apt.conf"
        apt-get update -q
        version=$(apt-cache policy libstd-rust-web-dev:arm64 | sed -n 's/^ *Candidate: //p')
        apt-cache show "libstd-rust-web-dev:amd64=$version" >/dev/null # the same build for the host, or stop
        std=$(apt-cache show "libstd-rust-web-dev:arm64=$version" |
            sed -n 's/^Depends: .*\(libstd-rust-web-[0-9.]*\) .*/\1/p')
        llvm=$(apt-cache show "$std:amd64=$version" | sed -n 's/^Depends: .*\(libllvm[0-9]*\).*/\1/p')
        cd "$work/debs"
        apt-get download -q "rustc-web=$version" "libstd-rust-web-dev:amd64=$version" \
            "libstd-rust-web-dev:arm64=$version" "$std:amd64=$version" "$llvm:amd64"
    )
    local package program
    for package in "$work"/debs/*.deb; do dpkg -x "$package" "$work/root"; done
    mkdir -p "$work/root/bin"
    for program in rustc rustdoc; do
        cat >"$work/root/bin/$program" <<C
#!/bin/sh
LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH} exec $root/usr/bin/$program "\$@"
C
        chmod +x "$work/root/bin/$program"
    done
    rm -rf "$root"
    mv "$work/root" "$root"
    rm -rf "$work"
}

environment() {
    native || echo "export RUSTC='$root/bin/rustc' RUSTDOC='$root/bin/rustdoc'"
    echo "export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc"
}

case ${1-} in
    install) install ;;
    env) environment ;;
    *) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2 ;;
esac
