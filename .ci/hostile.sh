# Sourced by the scripts that attack an example server: `server.sh`, and the clients of `attack.py`.
# shellcheck shell=bash
source .ci/python
# A log has then no escape sequences but those of clients, and no backtraces.
export NO_COLOR=1 RUST_BACKTRACE=0
source .ci/server.sh
scratch=$(mktemp -d)
attacker=
trap 'for started in $attacker $server; do kill "$started" 2>/dev/null || true; done
    rm -rf "$log" "$report" "$scratch"' EXIT

# at_most NAME MAXIMUM VALUE
at_most() {
    verify "$1" ' <= ' "$([ "$3" -le "$2" ] && echo "$3 <= $2" || echo "$3 > $2")"
}

# memory NAME: VmRSS is the memory of the server now, VmHWM the most that it had, in KiB.
memory() { awk -v name="$1:" '$1 == name { print $2 }' "/proc/$server/status"; }

# attack arguments…: ends at once, with what the client prints.
attack() { timeout 80 $python .ci/attack.py "$address" "$@" 2>&1 || true; }

# hold arguments…: starts a client that holds its connections, and waits until it has done so.
hold() {
    : >"$scratch/held"
    $python .ci/attack.py "$address" "$@" >"$scratch/held" 2>&1 &
    attacker=$!
    for _ in $(seq 100); do
        if grep -q '^ready' "$scratch/held" || ! kill -0 $attacker 2>/dev/null; then break; fi
        sleep 0.1
    done
}

held() { cat "$scratch/held"; }

# let_go: ends the client that holds connections.
let_go() {
    kill "$attacker" 2>/dev/null || true
    wait "$attacker" || true
    attacker=
}
