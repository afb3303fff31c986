# Sourced by the scripts that drive an example server: starts one, sends requests, stops it, and
# records whether anything was not as expected.
# shellcheck shell=bash
set -euo pipefail
log=$(mktemp)
report=$(mktemp)
server=
url=
address=
failed=0
cleanup() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    rm -f "$log" "$report"
}
trap cleanup EXIT

# A low limit and short times, so that a check is short.
few="--concurrency 16 --queue 0 --timeout-ms 1000"

# find_server NAME: a server of the testbed, or an example of the crate as the tests build it.
find_server() {
    local name
    for name in "${SERVERS:-target/debug}/$1" target/debug/examples/"$1"; do
        [ ! -x "$name" ] || { echo "$name" && return; }
    done
    echo "$1 is not built" >&2
    return 1
}

# start NAME arguments…: on a free port.
start() {
    local example=$1
    shift
    : >"$log" # now, or the loop below may read the address of the server before
    "$(find_server "$example")" --port 0 "$@" >>"$log" 2>&1 &
    server=$!
    url=
    for _ in $(seq 100); do
        url=$(sed -n 's/^listening on //p' "$log")
        [ -n "$url" ] && break
        sleep 0.1
    done
    address=${url#http://}
    echo "-- $example $*"
}

# stop: by SIGTERM. The server must end by itself, also with requests in flight: their grace period
# is 10 s.
stop() {
    kill -TERM "$server"
    timeout 15 tail --pid="$server" -f /dev/null || kill -KILL "$server"
    if wait "$server"; then echo "ok: stopped cleanly"; else echo "FAILED: stopped with $?" && failed=1; fi
    server=
}

# verify NAME PATTERN TEXT
verify() {
    if grep -qE "$2" <<<"$3"; then echo "ok: $1: $3"; else echo "FAILED: $1: $3, not $2" && failed=1; fi
}

# expect NAME PATTERN curl-arguments…: the pattern is for `status content-type`.
expect() {
    local name=$1 pattern=$2
    shift 2
    verify "$name" "^$pattern" "$(curl -s -m 20 -o /dev/null -w '%{http_code} %{content_type}' "$@" || true)"
}

# header NAME HEADER-PATTERN curl-arguments…
header() {
    local name=$1 pattern=$2
    shift 2
    verify "$name" "$pattern" "$(curl -s -m 20 -o /dev/null -D - "$@" | tr -d '\r' | grep -iE "$pattern" || true)"
}

zeros() { head -c "$1" /dev/zero; }
