#!/bin/sh
# Do the benchmarked kernels keep everything in registers? Read from the compiler's report of this build (CUDA=1).
. tests/cli/lib.sh

# The kernels that `kvscope bench` times in its own shape (head_dim 128, pages of 128, at most 4 bits), as c++filt
# writes them; of attention, those of other pages at that head_dim as well.
kernels='quantize_keys_128<true> quantize_keys_128<false> quantize_values<128,true,true> quantize_values<128,false,true>
dequantize_keys<128,true> dequantize_keys<128,false> dequantize_values<128,true> dequantize_values<128,false> copy
attend<128> kvs_attend_kernel<kvs_fragment_pages<128,1>,8> kvs_attend_kernel<kvs_fragment_pages<128,1>,2>
kvs_attend_kernel<kvs_row_pages<128,8,1,false>,8> kvs_attend_kernel<kvs_row_pages<128,8,1,false>,2>
kvs_attend_kernel<kvs_row_pages<128,8,1,true>,8> kvs_attend_kernel<kvs_row_pages<128,8,1,true>,2>'

# One line a kernel and architecture: arch name stack stores loads registers.
summarize() {
    cat "$@" | c++filt | awk '
        /Compiling entry function/ {
            arch = $NF; gsub(/[^a-z0-9_]/, "", arch)
            name = $0; sub(/.*Compiling entry function ./, "", name); sub(/^void /, "", name)
            gsub(/\(anonymous namespace\)::/, "", name); sub(/\(.*/, "", name); gsub(/ |\(int\)|\(bool\)/, "", name)
        }
        / bytes stack frame/ { frame = $1; stores = $5; loads = $9 }
        /Used [0-9]+ registers/ { registers = $5; print arch, name, frame, stores, loads, registers }'
}

if [ "${CUDA:-0}" != 1 ] || ! ls "$B"/kernels/cuda/*.report >/dev/null 2>&1; then
    skip 'the benchmarked kernels spill nothing' 'this build has no CUDA kernels (CUDA=0)'
    finish
    exit
fi
summarize "$B"/kernels/cuda/*.report >"$T/summary"
for arch in sm_80 sm_90; do
    for kernel in $kernels; do
        awk -v arch="$arch" -v kernel="$kernel" '
            $1 == arch && $2 == kernel { found = 1; print; if ($3 + $4 + $5 > 0) bad = 1 }
            END { exit !found || bad }' "$T/summary" >"$T/.out" 2>"$T/.err"
        report $? "$kernel for $arch: no stack frame, no spills"
    done
done
for arch in sm_80 sm_90; do
    instances=$(grep -c "^$arch " "$T/summary")
    echo "# $instances kernels for $arch"
    [ "$instances" -gt 30 ] && [ "$instances" -le 100 ]
    report $? "template instances for $arch are bounded"
done
if command -v cuobjdump >/dev/null; then
    for object in "$B"/kernels/cuda/*.cu.o; do
        [ "$(cuobjdump -lelf -lptx "$object" | sed 's/.*: //; s/.*\.sm_/sm_/' | LC_ALL=C sort | tr '\n' ' ')" = \
            'sm_80.cubin sm_90.cubin sm_90.ptx ' ] || echo "$object"
    done >"$T/.out" 2>"$T/.err"
    [ ! -s "$T/.out" ]
    report $? 'every kernel is there for 8.0, for 9.0 and as PTX'
else
    skip 'every kernel is there for 8.0, for 9.0 and as PTX' 'needs cuobjdump'
fi
# The shell's `times`: lines of user and system time as 1m2.3s.
seconds=$(cat "$B"/kernels/cuda/*.report | awk '
    /^[0-9]+m[0-9.]+s [0-9]+m[0-9.]+s$/ { for (i = 1; i <= 2; i++) { split($i, t, "[ms]"); sum += 60 * t[1] + t[2] } }
    END { printf "%d", sum }')
echo "# compiling the kernels took $seconds s of one core"
[ "$seconds" -gt 0 ] && [ "$seconds" -le 480 ]
report $? 'the kernels compile in 4 minutes on two cores'
finish
