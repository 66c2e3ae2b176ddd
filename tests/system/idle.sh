#!/bin/bash
# With nothing to do, zest sleeps: its process is not woken, and uses no CPU. Over AF_XDP it looks twice a minute
# whether its program is still attached.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs tap

wakes() { sed -n 's/^voluntary_ctxt_switches:[^0-9]*//p' "/proc/$1/status"; }
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
# For 2 seconds on end. The last timers of what was before may still run out first.
stays_asleep() {
    local w t
    for _ in {1..15}; do
        w=$(wakes "$ECHO_PID") t=$(ticks "$ECHO_PID")
        sleep 2
        echo "woken $(($(wakes "$ECHO_PID") - w)) times, $(($(ticks "$ECHO_PID") - t)) ticks"
        [ "$(wakes "$ECHO_PID")" = "$w" ] && [ "$(ticks "$ECHO_PID")" = "$t" ] && return 0
    done
    return 1
}
# In half a minute once, at most: a second time may be what was before.
hardly_woken() {
    local w
    for _ in 1 2 3; do
        w=$(wakes "$ECHO_PID")
        sleep 31
        echo "woken $(($(wakes "$ECHO_PID") - w)) times"
        [ $(($(wakes "$ECHO_PID") - w)) -le 2 ] && return 0
    done
    return 1
}
lab_link 1500
check "zest echo starts" start_echo || finish
check "asleep before anyone came" stays_asleep
check "it echoes" echo_random 1M
check "asleep after the last one left" stays_asleep
${PEER[@]+"${PEER[@]}"} socat -u TCP:$LAB_ZEST_IP:7 STDOUT >/dev/null &
holder=$!
check "someone comes" lab_await established 1 7
check "asleep with a connection that says nothing" stays_asleep
check "for half a minute" hardly_woken
kill $holder
check "it ends in order" stop_echo
finish
