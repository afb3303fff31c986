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

# now: in milliseconds.
now() { date +%s%3N; }

# statuses: of the answers that hey got.
statuses() { grep -E '^ *(\[[0-9]+\]|Get )' "$report" | tr '\n\t' '  ' || true; }

# served NAME COUNT CONNECTIONS PATH: every request is answered with 200.
served() {
    hey -n "$2" -c "$3" "$url$4" >"$report" 2>&1
    verify "$1" "^ *\[200\] $2 responses *\$" "$(statuses)"
}

# logs NAME STATUS hey-arguments…: the lines that a flood adds to the log. For each reason (and for
# lines without one), the log gets five lines a second and one that says how many are left out.
logs() {
    local name=$1 status=$2 before began seconds reasons
    shift 2
    before=$(wc -l <"$log")
    began=$(now)
    hey "$@" >"$report" 2>&1
    seconds=$((($(now) - began + 999) / 1000 + 1))
    sleep 1.2 # for the last of these lines
    tail -n +$((before + 1)) "$log" >"$scratch/lines"
    reasons=$( (grep -ao 'reason="*[a-z_]*' "$scratch/lines" || true) | sort -u | wc -l)
    ! grep -qav 'reason=' "$scratch/lines" || reasons=$((reasons + 1))
    verify "$name" "^ *\[$status\]" "$(statuses)"
    at_most "$name: lines for $reasons reasons in $seconds s" $((6 * reasons * seconds)) \
        "$(wc -l <"$scratch/lines")"
    # A number that is neither a status nor part of the time.
    verify "$name: the log has how many are left out" '[ =][1-9][0-9]{2,}( |$)' \
        "$(sed -E 's/^[^ ]* *//; s/status=[0-9]+//' "$scratch/lines" |
            grep -aE '[ =][1-9][0-9]{2,}( |$)' | tail -1 || true)"
}

# The bytes of control characters, and of characters that change the direction of text.
raw='[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xd8\x9c'
raw+='|\xe2\x80[\x8e\x8f\xaa-\xae]|\xe2\x81[\xa6-\xa9]'

# escaped NAME STATUS PATH: such characters are in the path where it has an `@`.
escaped() {
    verify "$1, with raw characters in the path" " x $2" "$(attack escapes "$3")"
    sleep 0.2
    verify "$1: no raw characters in the log" '^0$' "$(LC_ALL=C grep -caP "$raw" "$log" || true)"
}

# upload NAME STATUS PATH: clients that are still sending read their answer, and all of it. Curl
# ends with 92 where the stream is reset.
zeros 100000 >"$scratch/upload"
upload() {
    local ends
    ends=$(for _ in $(seq 20); do
        curl -s -m 20 -o /dev/null -w '%{http_code}:' --http2-prior-knowledge \
            --data-binary "@$scratch/upload" "$url$3" && echo -n '0 ' || echo -n "$? "
    done)
    verify "$1: curl" "^($2:[0-9]+ ){20}\$" "$ends"
    verify "$1: curl, complete" '^([0-9]+:0 ){20}$' "$ends"
    verify "$1: a client that sends all" "^20 x $2, [0-9]+ bytes\$" "$(attack uploads "$3")"
}
