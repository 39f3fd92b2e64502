#!/bin/sh
# Is every wrapper of the kernels one instruction of the stated width on a device? Each kernel of wrapper_kernels.cu is
# compiled; its PTX, and its machine code where a disassembler is there, must hold the expected instructions and no other
# that touches memory, lanes, barriers or the matrix unit.
. tests/cli/lib.sh

NVCC=${NVCC:-$(command -v nvcc)}
source=tests/cli/wrapper_kernels.cu
if [ -z "$NVCC" ]; then
    skip 'every wrapper is one instruction' 'needs nvcc'
    finish
    exit
fi

# usage: instructions NAME FILE: those of kernel NAME, sorted, on one line
ptx_instructions() {
    awk -v name="$1" '
        /\.entry/ { inside = $0 ~ "\\.entry " name "\\(" }
        inside { sub(/^[ \t]*(@!?%p[0-9]+ )?/, ""); sub(/;.*/, ""); print $1 }' "$2" |
        grep -E '^(ld\.(global|shared|local)|ld\.[^p]|st\.|atom|red|cp\.|ldmatrix|mma|movmatrix|shfl|vote|bar|membar|fence)' |
        LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//'
}

# sm_90 code has loads before an asynchronous copy that are predicated off (@!PT): they never run.
sass_instructions() {
    grep -v '@!PT' "$2" | awk -v name="$1" '
        /^\.text\./ { inside = $0 ~ "^\\.text\\." name ":" }
        inside && /\/\*[0-9a-f]+\*\// { sub(/^[ \t]*\/\*[0-9a-f]+\*\/[ \t]*(\{ )?(@!?U?P[0-9T]+ )?/, ""); print $1 }' |
        grep -E '^(LD[GSL]|LD\.|ST[GSL]|ST\.|LDSM|LDGSTS|LDGDEPBAR|DEPBAR|ATOM|RED|HMMA|MOVM|SHFL|VOTE|BAR|MEMBAR)' |
        LC_ALL=C sort | tr '\n' ' ' | sed 's/ $//'
}

check() { # check FORM FILE FIELD: the instructions of every kernel of FILE
    sed -n 's/^.* expect: \(.*\) \*\/$/\1/p' "$source" | while IFS='|' read -r name ptx sass; do
        name=$(echo $name)
        if [ "$1" = ptx ]; then want=$(echo $ptx); else want=$(echo $sass); fi
        got=$("$1_instructions" "$name" "$2")
        [ "$got" = "$want" ] || echo "$name: wanted $want, got $got"
    done >"$T/.out"
    [ ! -s "$T/.out" ]
    report $? "$3"
}

[ "$(grep -c '^GLOBAL' "$source")" = "$(sed -n 's/^.* expect: \(.*|.*|.*\) \*\/$/\1/p' "$source" | wc -l)" ]
report $? 'every kernel says what is expected of it'
for arch in 80 90; do
    run "$NVCC" -std=c++17 -O3 -I. -arch=compute_$arch -ptx -o "$T/$arch.ptx" "$source"
    report "$status" "compiled to PTX for compute_$arch"
    # Newer compilers write untyped accesses (b32): the width is what counts.
    sed -i -E 's/^([ \t]*(ld|st)\.(global|shared)(\.nc)?(\.v[24])?)\.[bsf](8|16|32)/\1.u\6/' "$T/$arch.ptx"
    check ptx "$T/$arch.ptx" "one instruction each in PTX for compute_$arch"
    if command -v nvdisasm >/dev/null; then
        run "$NVCC" -std=c++17 -O3 -I. -arch=sm_$arch -cubin -o "$T/$arch.cubin" "$source"
        report "$status" "compiled to machine code for sm_$arch"
        nvdisasm -c "$T/$arch.cubin" >"$T/$arch.sass"
        check sass "$T/$arch.sass" "one instruction each in machine code for sm_$arch"
    else
        skip "one instruction each in machine code for sm_$arch" 'needs nvdisasm'
    fi
done
finish
