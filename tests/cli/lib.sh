# lib.sh: helpers for command-line tests; each prints one TAP line. Source it, test, then call `finish`.
# Uses: B (the build folder). Gives: KVSCOPE, SAMPLES, a scratch folder $T that is removed at the end.
B=${B:-build}
KVSCOPE=$PWD/$B/kvscope
SAMPLES=$PWD/traces/sample
T=$(mktemp -d)
trap 'chmod -R u+w "$T" 2>/dev/null; rm -rf "$T"' EXIT
count=0
failed=0

report() { # report STATUS NAME: STATUS 0 is a pass; what the last command printed is shown on failure
    count=$((count + 1))
    if [ "$1" = 0 ]; then
        echo "ok $count - $2"
    else
        echo "not ok $count - $2"
        sed 's/^/#   /' "$T/.out" "$T/.err" 2>/dev/null | head -20
        failed=1
    fi
}

skip() { # skip NAME REASON
    count=$((count + 1))
    echo "ok $count - $1 # SKIP $2"
}

run() { # run COMMAND...: keeps output in $T/.out and $T/.err, the exit status in $status
    "$@" >"$T/.out" 2>"$T/.err"
    status=$?
}

passes() { # passes NAME COMMAND...: exit status 0
    name=$1 && shift
    run "$@"
    report "$status" "$name"
}

fails() { # fails STATUS PATTERN NAME COMMAND...: that exit status, and exactly one line on stderr that matches PATTERN
    want=$1 pattern=$2 name=$3 && shift 3
    run "$@"
    [ "$status" = "$want" ] && [ "$(wc -l <"$T/.err")" = 1 ] && grep -Eq "$pattern" "$T/.err"
    report $? "$name (exit $status, wanted $want)"
}

finish() {
    echo "1..$count"
    exit $failed
}
