#!/bin/sh
# Runs test programs that print TAP, two at a time or as many as there are cores, and closes with one line of counts.
# usage: B=build tests/run.sh PROGRAM...    Each program's output is kept in $B/test-logs.
logs=$B/test-logs
rm -rf "$logs" && mkdir -p "$logs"
# Programs run side by side: waiting threads must not spin on cores that others need.
export CMOCKA_MESSAGE_OUTPUT=TAP OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1
started=$(date +%s)

printf '%s\n' "$@" | xargs -P "$(nproc)" -I{} sh -c '
    log=$1/$(printf %s "$2" | tr / _).log
    before=$(date +%s)
    case $2 in
    *.sh) timeout 900 sh "$2" >"$log" 2>&1 ;;
    *) timeout 900 "$2" >"$log" 2>&1 ;;
    esac
    echo "exit $? seconds $(($(date +%s) - before))" >>"$log"' sh "$logs" {}

awk '
    function close_file() {
        if (file == "") return
        if (status != 0 && bad == 0) { bad = 1; print "FAILED " file ": exit " status " without a failed test"; show = 1 }
        if (show) { print "---- " file; for (i = 1; i <= lines; i++) print text[i]; print "----" }
        total_good += good; total_bad += bad; total_skipped += skipped
        printf "%-52s %4d passed %3d failed %3d skipped %5d s\n", file, good, bad, skipped, seconds
    }
    FNR == 1 { close_file(); file = FILENAME; sub(".*/", "", file); good = bad = skipped = lines = show = 0; status = 1 }
    { text[++lines] = $0 }
    /^(not )?ok .*# SKIP/ { skipped++; print "skipped: " $0; next }
    /^ok / { good++ }
    /^not ok / { bad++; show = 1 }
    /^exit [0-9]+ seconds/ { status = $2; seconds = $4 }
    END {
        close_file()
        printf "%d passed, %d failed, %d skipped\n", total_good, total_bad, total_skipped
        exit total_bad > 0 || total_good == 0
    }' "$logs"/*.log >"$logs/summary"
result=$?
sed '$d' "$logs/summary"
echo "tests took $(($(date +%s) - started)) s; logs in $logs"
tail -n 1 "$logs/summary"
exit $result
