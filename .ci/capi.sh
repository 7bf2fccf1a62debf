#!/usr/bin/env bash
# The C ABI from the side of C: the library is built as a C program would want it, and tests/c/capi.c and the examples are compiled
# against its header, as C and as C++, and run: linked statically and dynamically, with the sanitizers of the C compiler, and under
# Valgrind. That the header is up to date is tests/header/; most checks of the functions are tests/capi.rs.
set -euo pipefail
cd "$(dirname "$0")/.."

# Bytes that the shared library may have: docs/c.md has what it has, and this has 3 % of room. It was 1600000 before there were graphs.
# The planner of graphs and the kernels of sums, products and window pools took 90 KB. The functions of C for graphs took 68 KB: there are 26,
# and they call the builder and the packing of groups and of transposed convolutions, which nothing called before. Activations took 110 KB.
most=1920000

missing=
for tool in cc c++ nm readelf valgrind; do command -v $tool >/dev/null || missing=1; done
if [ -n "$missing" ]; then
    apt-get update -q
    apt-get install -qy gcc g++ binutils valgrind
fi

target=${CARGO_TARGET_DIR:-target}
# where cargo puts what the profile `capi` makes
built=$target/capi
out=$target/capi-programs
rm -rf "$out"
mkdir -p "$out"

# the SONAME has the first two numbers of the version, and docs/c.md names the same
soname=libsepconv.so.$(sed -n 's/^version = "\([0-9]*\.[0-9]*\)\..*/\1/p' Cargo.toml)
grep -q -- "-C link-arg=-Wl,-soname,$soname\$" docs/c.md

# the system's libraries that a static one needs are what rustc says
cargo rustc --profile capi -q --lib -p sepconv --features capi,models --crate-type staticlib,cdylib -- \
    -C "link-arg=-Wl,-soname,$soname" --print native-static-libs 2>"$out/rustc" || { cat "$out/rustc" >&2; exit 1; }
libraries=$(sed -n 's/^note: native-static-libs: //p' "$out/rustc")

# the library exports the functions of the header, no more and no less
declared=$(grep -o '\bsepconv_[a-z0-9_]*(' src/capi/sepconv.h | tr -d '(' | sort -u)
exported=$(nm -D --defined-only "$built/libsepconv.so" | awk '{ print $3 }' | sort -u)
diff <(echo "$declared") <(echo "$exported")

# what the dynamic section of a file says: SONAME, NEEDED
dynamic() { readelf -d "$1" | sed -n "s/.*($2).*\[\(.*\)\]/\1/p"; }
[ "$(dynamic "$built/libsepconv.so" SONAME)" = "$soname" ]
mkdir "$out/lib"
cp "$built/libsepconv.so" "$out/lib/$soname"
ln -s "$soname" "$out/lib/libsepconv.so"

bytes=$(stat -c %s "$built/libsepconv.so")
printf 'libsepconv.so with models: %s bytes, at most %s\n' "$bytes" "$most"
[ "$bytes" -le "$most" ]

warnings="-Wall -Wextra -Wconversion -Werror -pedantic -Isrc/capi"
c="cc -std=c99 -D_POSIX_C_SOURCE=200809L -Wstrict-prototypes $warnings"
cpp="c++ -std=c++11 -x c++ $warnings"
static="-x none $built/libsepconv.a $libraries"
# shellcheck disable=SC2086 # the words are arguments
{
    $c -O2 tests/c/capi.c -o "$out/capi" $static
    $cpp -O2 tests/c/capi.c -o "$out/capi-cpp" $static
    $c -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all tests/c/capi.c -o "$out/capi-sanitized" $static
    for example in separable residual_nchw two_outputs; do
        $c -O2 examples/c/$example.c -o "$out/$example" -L"$out/lib" -lsepconv -lm
        $cpp -fsyntax-only examples/c/$example.c
    done
    for example in residual_nchw two_outputs; do
        $c -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all examples/c/$example.c -o "$out/$example-sanitized" $static
    done
    $c -O2 examples/c/separable.c -o "$out/separable-rpath" -L"$out/lib" -lsepconv "-Wl,-rpath,$(realpath "$out")/lib"
}

run() { printf '%s\n' "-- $*"; "$@"; }
run "$out/capi"
run "$out/capi-cpp"
run env SEPCONV_MAX_ISA=scalar "$out/capi"
run env SEPCONV_MAX_ISA=avx1024 "$out/capi" isa
run "$out/capi-sanitized"
# threads of a pool end by themselves, and what they still hold is not lost; Valgrind knows no AVX-512
run env SEPCONV_MAX_ISA=avx2 valgrind -q --error-exitcode=1 --leak-check=full --errors-for-leak-kinds=definite \
    --show-leak-kinds=definite "$out/capi"
# programs that were linked with the shared library look for it by its SONAME
dynamic "$out/separable" NEEDED | grep -qx "$soname"
run env LD_LIBRARY_PATH="$out/lib" "$out/separable"
run "$out/separable-rpath"
for example in residual_nchw two_outputs; do
    run env LD_LIBRARY_PATH="$out/lib" "$out/$example"
    run "$out/$example-sanitized"
done
