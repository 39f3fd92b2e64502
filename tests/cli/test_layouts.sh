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
fails 2 'fragment: page: 16 tokens are no multiple of 32' 'fragment by name with a page of 16' "$KVSCOPE" layouts --layout fragment --page 16
fails 2 'head_dim: 80 is none of' 'a head_dim that no kernel supports' "$KVSCOPE" layouts --head-dim 80
fails 2 'bits: 3' 'bits that no layout supports' "$KVSCOPE" layouts --bits 3
fails 2 'unknown layout' 'an unknown layout' "$KVSCOPE" layouts --layout nonsense
# Full-precision pages of 128 tokens x 128 channels: 32 KiB each of keys and values, every sector once, fully used. A
# packed page is written and read as often as it has sectors, at least.
run "$KVSCOPE" layouts --transactions --json --kv-heads 2
if [ -n "${PYTHON:-}" ]; then
    "$PYTHON" - "$T/.out" 2>"$T/.err" <<'PYTHON'
import json, sys
for layout in json.load(open(sys.argv[1]))["layouts"]:
    rows = layout["transactions_per_page"]
    if layout["layout"].startswith("fp16"):
        assert [row["purpose"] for row in rows] == ["read keys", "read values"]
        for row in rows:
            assert row["loads"]["requests"] == 64 and row["loads"]["sectors"] == row["stores"]["sectors"] == 1024
            assert row["loads"]["sectors_per_request"] == 16 and row["loads"]["useful_bytes_per_sector"] == 32
            assert row["async_copies"]["sectors_per_request"] is None
            assert row["compulsory_read_bytes"] == row["compulsory_written_bytes"] == 32768
    else:
        assert len(rows) == 4, layout["layout"]
        write_k, write_v, read_k, read_v = rows
        written = write_k["compulsory_written_bytes"] + write_v["compulsory_written_bytes"]
        assert layout["page_bytes"] - 64 <= written <= layout["page_bytes"] + 64, layout["layout"]
        for write, read in (write_k, read_k), (write_v, read_v):
            assert write["compulsory_read_bytes"] == read["compulsory_written_bytes"] == 32768
            assert read["compulsory_read_bytes"] == write["compulsory_written_bytes"]
            assert read["loads"]["sectors"] * 32 >= read["compulsory_read_bytes"]
            # One pass: nothing goes through global memory twice, on the way in or out.
            assert write["loads"]["sectors"] + write["async_copies"]["sectors"] == 1024
            assert 0 <= write["compulsory_written_bytes"] - write["stores"]["useful_bytes"] <= 32, layout["layout"]
PYTHON
    report $? 'every sector of a page is written and read, and full precision wastes none'
else
    skip 'every sector of a page is written and read' 'needs Python'
fi
passes 'layouts --transactions as a table' "$KVSCOPE" layouts --transactions --layout fragment --kv-heads 1
[ "$(grep -c '^fragment ' "$T/.out")" = 4 ]
report $? 'one line for each kernel'

finish
