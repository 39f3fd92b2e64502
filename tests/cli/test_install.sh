#!/bin/sh
# Is what `make install` leaves enough for a C program of someone else?
cd "$(dirname "$0")/../.." || exit 1
. tests/cli/lib.sh
CC=${CC:-cc}

passes 'make install' make --no-print-directory install B="$B" DESTDIR="$T/stage" PREFIX=/opt/kvs
passes 'DESTDIR does not get into kvscope.pc' grep -q '^prefix=/opt/kvs$' "$T/stage/opt/kvs/lib/pkgconfig/kvscope.pc"
passes 'make install elsewhere' make --no-print-directory install B="$B" DESTDIR= PREFIX="$T/prefix"
passes 'the installed program runs' "$T/prefix/bin/kvscope" --version

cat >"$T/user.c" <<'PROGRAM'
#include "core/version.h"
#include "kernels/scheme.h"
#include <stdio.h>

int main(void) {
    kvs_scheme *scheme;
    kvs_error error;
    if (kvs_scheme_open("kitty:boost=0.25", 128, &scheme, &error) != KVS_OK) return 1;
    printf("%s %.5f\n", KVS_VERSION, kvs_bits_sum(kvs_scheme_page_bits(scheme)));
    kvs_scheme_close(scheme);
    return kvs_scheme_open("no_such_scheme", 128, &scheme, &error) != KVS_USAGE;
}
PROGRAM
export PKG_CONFIG_PATH="$T/prefix/lib/pkgconfig"
version=$(sed -n 's/.*KVS_VERSION "\(.*\)"/\1/p' core/version.h)
passes 'pkg-config knows the version' sh -c "[ \"\$(pkg-config --modversion kvscope)\" = '$version' ]"
sanitize=''
nm "$B/libkvscope.a" 2>/dev/null | grep -q __asan_init && sanitize=-fsanitize=address,undefined

passes 'a C program compiles against the shared library' sh -c \
    "cd '$T' && $CC -std=c11 $sanitize user.c -o shared \$(pkg-config --cflags --libs kvscope)"
run env LD_LIBRARY_PATH="$T/prefix/lib" "$T/shared"
[ "$status" = 0 ] && grep -qx "$version 2.53125" "$T/.out" # 2 + 0.25 + 20/128 + 16/128 bits: see the README
report $? 'and runs, with the memory of a full Kitty page'
passes 'a C program compiles against the static library' sh -c "cd '$T' && rm prefix/lib/libkvscope.so && \
    $CC -std=c11 $sanitize user.c -o static \$(pkg-config --cflags kvscope) \$(pkg-config --static --libs kvscope)"
run env -u LD_LIBRARY_PATH "$T/static"
[ "$status" = 0 ] && grep -qx "$version 2.53125" "$T/.out"
report $? 'and runs'

# What kernels are written in (kernels/simt) is C++, but for what other headers include of it.
(cd "$T/prefix/include/kvscope" && find . -name '*.h' ! -path './kernels/simt/*' | sort | sed 's/^\.\/\(.*\)/#include "\1"/') >"$T/all.c"
[ "$(wc -l <"$T/all.c")" -gt 20 ]
report $? 'the headers are there'
passes 'and compile together, with what pkg-config says' sh -c \
    "cd '$T' && $CC -std=c11 -D_GNU_SOURCE -fsyntax-only \$(pkg-config --cflags kvscope) all.c"
finish
