#!/bin/bash
# How zest ends, and what it leaves: SIGINT and SIGTERM in the middle of a transfer tell the clients
# and bring all memory home; after kill -9 the interface is free and the next start works at once.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs tap

busy() { # clients that never end, in the background
    peer bash -c 'socat -u /dev/zero TCP:'$LAB_ZEST_IP':7 & socat -t 60 /dev/zero TCP:'$LAB_ZEST_IP':7 >/dev/null & wait' 2>/dev/null &
    BUSY=$!
    more_moved z0 1000000
}
clients_gone() { # a RST ends them; nobody has to kill them
    lab_await nobody && return
    pgrep -a socat
    return 1
}
nobody() { ! pgrep -x socat; }
ends_with() { # ends_with SIGNAL: status 0, so all memory was home
    kill "-$1" "$ECHO_PID"
    wait "$ECHO_PID"
    local status=$?
    cat "$LAB_TMP/echo.log"
    [ $status = 0 ]
}
nothing_attached() { # TAP: not even the interface
    [ "$LAB" = tap ] && { ! ip link show z0 2>/dev/null; return; }
    ip link show z0
    ! ip link show z0 2>/dev/null | grep -q xdp
}
for signal in INT TERM; do
    lab_link 1500
    # A shell starts background jobs with SIGINT ignored.
    check "zest echo starts" lab_start echo env --default-signal=INT "$ZEST" echo "${LAB_LINK[@]}" || finish
    ECHO_PID=$LAB_PID
    busy
    check "SIG$signal in the middle of a transfer: it ends in order, all memory home" ends_with $signal
    check "its clients were told" clients_gone
    check "no XDP program is left" nothing_attached
    wait $BUSY
    lab_unlink
done
lab_link 1500
# What stays when the dispatcher is used is the business of attach.sh.
by_link=()
[ "$LAB" = xdp ] && by_link=(--attach link)
for round in 1 2 3; do
    check "zest echo starts (after $((round - 1)) kills)" start_echo ${by_link[@]+"${by_link[@]}"} || finish
    busy
    kill -KILL "$ECHO_PID"
    wait "$ECHO_PID" 2>/dev/null
    check "kill -9: no XDP program is left" nothing_attached
    pkill -x socat
    wait $BUSY
done
check "it starts at once after a kill -9" start_echo || finish
check "and works" echo_random 4M
check "and ends in order" stop_echo
check "no XDP program is left" nothing_attached
finish
