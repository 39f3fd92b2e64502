#!/bin/sh
# Installs what kvscope needs with the system's package manager when it may; otherwise prints the exact command and
# stops with status 4. usage: tools/deps.sh [--check]   (--check only looks)
set -u

have_program() { command -v "$1" >/dev/null 2>&1; }
have_package() { pkg-config --exists "$@" 2>/dev/null; }
have_python() { for p in /usr/bin/python3 python3; do "$p" -c 'import h5py, numpy' 2>/dev/null && return 0; done; return 1; }

# What we look for | how we see that it is there | apt | dnf | pacman
needs() {
    cat <<'TABLE'
C compiler|have_program cc|gcc|gcc|gcc
C++ compiler|have_program c++|g++|gcc-c++|gcc
make|have_program make|make|make|make
git|have_program git|git|git|git
pkg-config|have_program pkg-config|pkg-config|pkgconf-pkg-config|pkgconf
HDF5|have_package hdf5-serial || have_package hdf5|libhdf5-dev|hdf5-devel|hdf5
cJSON|have_package libcjson|libcjson-dev|cjson-devel|cjson
OpenSSL|have_package libcrypto|libssl-dev|openssl-devel|openssl
OpenBLAS|have_package openblas|libopenblas-dev|openblas-devel|openblas
PCRE2|have_package libpcre2-8|libpcre2-dev|pcre2-devel|pcre2
cmocka|have_package cmocka|libcmocka-dev|libcmocka-devel|cmocka
gnuplot|have_program gnuplot|gnuplot-nox|gnuplot-minimal|gnuplot
python3 with h5py and numpy|have_python|python3-h5py python3-numpy|python3-h5py python3-numpy|python-h5py python-numpy
TABLE
}

if have_program apt-get; then column=3 install='apt-get install -y --no-install-recommends' refresh='apt-get update'
elif have_program dnf; then column=4 install='dnf install -y' refresh=true
elif have_program pacman; then column=5 install='pacman -S --noconfirm --needed' refresh='pacman -Sy'
else column=0 install='' refresh=''
fi

find_missing() {
    missing='' packages=''
    while IFS='|' read -r line; do
        name=${line%%|*}
        # The test may itself hold "||": it is what stands between the first and the last three columns.
        names=$(printf '%s' "$line" | awk -F'|' -v c="$column" '{ print c ? $(NF - 5 + c) : "" }')
        test=$(printf '%s' "$line" | awk -F'|' '{ t = $2; for (i = 3; i <= NF - 3; i++) t = t "|" $i; print t }')
        eval "$test" || { missing="$missing${missing:+, }$name"; packages="$packages $names"; }
    done <<EOF
$(needs)
EOF
}

find_missing
[ -z "$missing" ] && exit 0
if [ "$column" = 0 ]; then
    echo "kvscope needs: $missing. Install them with your system's package manager." >&2
    exit 4
fi
as_root=''
[ "$(id -u)" = 0 ] || as_root=sudo
if [ "${1:-}" != --check ] && { [ -z "$as_root" ] || sudo -n true 2>/dev/null; }; then
    echo "installing: $missing"
    if $as_root $refresh >/dev/null && DEBIAN_FRONTEND=noninteractive $as_root $install $packages >/dev/null; then
        find_missing
        [ -z "$missing" ] && exit 0
    fi
fi
echo "kvscope needs: $missing. Install with:" >&2
echo "  $as_root $install$packages" >&2
exit 4
