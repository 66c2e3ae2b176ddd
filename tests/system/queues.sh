#!/bin/bash
# Two queues, two threads: connections are spread over both, every frame comes in where its connection
# is, and what does not is handed to where it belongs. All is counted, nothing is timed.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp

# A Linux peer draws a queue for each connection, and again after each time-out; this keeps it to the
# first.
no_rehash() { peer sysctl -qw net.core.txrehash=0 2>/dev/null; }
# Linux has its say on which queue to answer by which queue it heard: crosswise, as veth counts them.
cross() {
    ip netns exec peer sh -c 'for q in 0 1; do printf %x $((1 << q)) >/sys/class/net/p0/queues/tx-$q/xps_rxqs || exit 1; done'
}
uncross() { ip netns exec peer sh -c 'echo 0 >/sys/class/net/p0/queues/tx-0/xps_rxqs; echo 0 >/sys/class/net/p0/queues/tx-1/xps_rxqs'; }
many() { # many N SIZE: so many clients at a time
    local i pids=()
    for ((i = 0; i < $1; i++)); do
        echo_random "$2" &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i" || return 1; done
}
of_queue() { # of_queue N PATTERN: the number before PATTERN in what echo says of it
    sed -nE "s/.*queue $1: .*[^0-9]([0-9]+) $2.*/\1/p;s/.*queue $1: ([0-9]+) $2.*/\1/p" "$LAB_TMP/echo.log" | head -n 1
}
both_served() {
    cat "$LAB_TMP/echo.log"
    [ "$(of_queue 0 connections)" -gt 0 ] && [ "$(of_queue 1 connections)" -gt 0 ] &&
        [ $(($(of_queue 0 connections) + $(of_queue 1 connections))) = "$1" ]
}
none_strayed() { [ "$(of_queue 0 'of them')$(of_queue 1 'of them')" = 00 ]; }
some_strayed() { [ $(($(of_queue 0 'of them') + $(of_queue 1 'of them'))) -gt 0 ]; }
start_server() { # start_server COMMAND...: zest perf, on the peer's side
    lab_start server "${PEER[@]}" "$ZEST" perf -s -i 0 "$@" && SERVER=$LAB_PID
}
stop_server() {
    local status
    lab_stop "$SERVER"
    status=$?
    cat "$LAB_TMP/server.log"
    [ $status = 0 ]
}
perf() { # perf OPTION...: its JSON in $LAB_TMP/json
    timeout 120 "$ZEST" perf "${LAB_LINK[@]}" --json "$@" >"$LAB_TMP/json"
    local status=$?
    cat "$LAB_TMP/json"
    return $status
}
is() { # is NAME VALUE, is NAME -gt VALUE
    local value
    value=$(json "$1" <"$LAB_TMP/json")
    echo "$1 is $value"
    if [ $# = 2 ]; then [ "$value" = "$2" ]; else [ "$value" "$2" "$3" ]; fi
}
strays_were_answers_only() { # to SYNs, each of which was tried again from another port
    local strays changes refused
    strays=$(json strays <"$LAB_TMP/json") changes=$(json port_changes <"$LAB_TMP/json") refused=$(json refused <"$LAB_TMP/json")
    echo "$strays strays, $changes changes of port, $refused refused"
    [ "$strays" = $((changes + refused)) ] && is handed 0
}

lab_link 1500 2
no_rehash || NO_REHASH=no
check "zest echo starts on both queues" start_echo --queues 2 || finish
check "24 clients at a time: all comes back intact" many 24 256K
check "it ends in order, all memory home" stop_echo
check "both queues had their part of the connections" both_served 24
if [ -z "${NO_REHASH:-}" ]; then
    check "no frame came in on the wrong queue" none_strayed
else
    skipped "no frame on the wrong queue: this kernel has no net.core.txrehash"
fi
check "'all' is both" start_echo --queues all
check "and works" echo_random 1M
check "and ends in order" stop_echo
check "it says so" grep -q 'queues 0 to 1, a thread each' "$LAB_TMP/echo.log"

# Each client draws its queue: that all of forty draw the one that is served happens to nobody.
check "one queue of two" start_echo
for i in {1..40}; do "${PEER[@]}" socat -u OPEN:/dev/null TCP:$LAB_ZEST_IP:7 2>/dev/null & done
all_asked() { [ "$(peer ss -Htan "dport = :7" | wc -l)" -ge 40 ]; }
check "forty clients ask" lab_await all_asked
check "it ends in order" stop_echo
check "and says what it did not get" grep -qE '[0-9]+ frames for us came in on queues that we do not serve' "$LAB_TMP/echo.log"
pkill -x socat
wait

# The other way: zest's own connections. On a veth pair a queue of zest's is the same queue of the peer's.
check "a zest server on both queues" start_server -I p0 --ip $LAB_OTHER_IP/24 --queues 2
for mode in "" -R --bidir --rr; do
    check "8 connections to it ${mode:-} over both queues" perf -c $LAB_OTHER_IP --queues 2 -P 8 -n 4K --verify $mode
    check "no frame came in on the wrong queue" is strays 0
    check "none was tried again" is port_changes 0
done
check "much" perf -c $LAB_OTHER_IP --queues 2 -P 8 -n 16M --verify
check "both carried it" is queue0_tx_bytes -gt 8000000
check "both" is queue1_tx_bytes -gt 8000000
check "nothing was copied" is copied_bytes 0
check "no frame came in on the wrong queue" is strays 0
check "the server ends in order" stop_server

# Linux draws a queue for each connection: answers come in anywhere, until a port has them come in here.
check "a Linux server" start_server --kernel
check "8 connections to it over both queues" perf -c $LAB_PEER_IP --queues 2 -P 8 -n 8M --verify --bidir
if [ -z "${NO_REHASH:-}" ]; then
    check "once they are open, no frame comes in on the wrong queue" strays_were_answers_only
fi
check "a port is tried again when its answer came in on the other queue" is port_changes -le 128

# Everything on the wrong queue: slow, and right.
if cross 2>/dev/null && perf -c $LAB_PEER_IP --queues 2 -P 4 -n 4M --verify --bidir >/dev/null && is handed -gt 1000; then
    check "answers on the wrong queue, all of them: intact" is bad_bytes 0
    check "it ended without an error" is error ""
    uncross
    cross
    check "zest echo on both queues" start_echo --queues 2
    check "8 clients at a time: all comes back intact" many 8 1M
    check "it ends in order, all memory home" stop_echo
    check "frames had come in on the wrong queue" some_strayed
    check "no connection was broken off" grep -q ' 0 ended in an error,' "$LAB_TMP/echo.log"
else
    skipped "answers on the wrong queue: Linux does not do as it was told"
fi
uncross
check "the server ends in order" stop_server
check "more queues than there are" bash -c "! '$ZEST' echo -I z0 --ip $LAB_ZEST_IP/24 --queues 3 2>'$LAB_TMP/e' && grep 'z0 has 2 queues' '$LAB_TMP/e'"
check "nothing is left attached" bash -c "! ip link show z0 | grep -q xdp"
finish
