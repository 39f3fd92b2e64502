#!/bin/sh
# Installs the program, the library, its headers and kvscope.pc. Called by `make install`.
# From the environment: B (the build folder), PREFIX, DESTDIR (put before PREFIX when packaging), HEADERS (as included),
# PACKAGES (what pkg-config calls the libraries we use), SYSTEM_LIBS (linker options of the others).
set -eu

case $PREFIX in
/*) ;;
*) PREFIX=$PWD/$PREFIX ;;
esac
to=${DESTDIR:-}$PREFIX
version=$(sed -n 's/^#define KVS_VERSION "\(.*\)"/\1/p' core/version.h)
[ -n "$version" ] || { echo "tools/install.sh: core/version.h: no version" >&2; exit 3; }

mkdir -p "$to/bin" "$to/lib/pkgconfig"
install -m 755 "$B/kvscope" "$to/bin/kvscope"
install -m 644 "$B/libkvscope.a" "$to/lib/libkvscope.a"
install -m 755 "$B/libkvscope.so" "$to/lib/libkvscope.so.$version"
if [ -f "$B/libkvscope_inject.so" ]; then install -m 755 "$B/libkvscope_inject.so" "$to/lib/libkvscope_inject.so"; fi
ln -sf "libkvscope.so.$version" "$to/lib/libkvscope.so.0"
ln -sf libkvscope.so.0 "$to/lib/libkvscope.so"
for header in $HEADERS; do
    mkdir -p "$to/include/kvscope/${header%/*}"
    install -m 644 "$header" "$to/include/kvscope/$header"
done

# libkvscope.a with the others' shared libraries: their static ones need more than `make deps` installs.
cat >"$to/lib/pkgconfig/kvscope.pc" <<PC
prefix=$PREFIX
includedir=\${prefix}/include/kvscope
libdir=\${prefix}/lib

Name: kvscope
Description: research simulator and profiler for quantized KV caches
Version: $version
Cflags: -I\${includedir} $(pkg-config --cflags $PACKAGES)
Libs: -L\${libdir} -lkvscope
Libs.private: $(pkg-config --libs $PACKAGES) $SYSTEM_LIBS
PC
echo "installed kvscope $version into $to"
