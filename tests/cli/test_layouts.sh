#!/bin/sh
# kvscope layouts: the numbers of the account, refusals by name.
. tests/cli/lib.sh

passes 'layouts' "$KVSCOPE" layouts
grep -q '^kitty: ' "$T/.out" && grep -q 'bits per element  2.53125 = payload 2.25000 + metadata 0.28125' "$T/.out"
report $? 'the published Kitty-Pro page takes 2.53125 bits'
for layout in fp16-nhd fp16-hnd kitty kitty-inline mixed-scattered permuted fragment; do
    grep -q "^$layout: " "$T/.out" || echo "$layout is missing" >>"$T/.err"
done
[ ! -s "$T/.err" ]
report $? 'every layout is printed'
passes 'layouts --boost 0.125' "$KVSCOPE" layouts --layout kitty --boost 0.125
grep -q 'bits per element  2.40625' "$T/.out"
report $? 'Kitty takes 2.40625 bits'
run "$KVSCOPE" layouts --json --head-dim 96 --page 64
if [ -n "${PYTHON:-}" ]; then
    "$PYTHON" - "$T/.out" 2>"$T/.err" <<'PYTHON'
import json, sys
rows = json.load(open(sys.argv[1]))["layouts"]
assert len(rows) == 7
for row in rows:
    bits = row["page_bits"]
    assert abs(bits["payload"] + bits["metadata"] + bits["padding"] - bits["effective"]) < 1e-12
    assert abs(bits["effective"] * 2 * 96 * 64 / 8 - row["page_bytes"]) < 1e-9
    if len(row["sections"]) > 2:
        assert sum(s["bytes"] for s in row["sections"]) <= row["page_bytes"]
    else:
        assert bits["effective"] == 16
PYTHON
    report $? 'the JSON adds up'
else
    skip 'the JSON adds up' 'needs Python'
fi
passes 'a page of 16 leaves out the layouts that need more' "$KVSCOPE" layouts --page 16
! grep -q '^fragment' "$T/.out"
report $? 'fragment is one of them'
fails 2 'fragment: page: 16 tokens are fewer' 'fragment by name with a page of 16' "$KVSCOPE" layouts --layout fragment --page 16
fails 2 'head_dim: 80 is none of' 'a head_dim that no kernel supports' "$KVSCOPE" layouts --head-dim 80
fails 2 'bits: 3' 'bits that no layout supports' "$KVSCOPE" layouts --bits 3
fails 2 'unknown layout' 'an unknown layout' "$KVSCOPE" layouts --layout nonsense
finish
