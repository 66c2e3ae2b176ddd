#!/bin/bash
# With nothing to do, zest sleeps: its process is not woken once, and uses no CPU.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs tap

wakes() { sed -n 's/^voluntary_ctxt_switches:[^0-9]*//p' "/proc/$1/status"; }
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
stays_asleep() { # over 2 seconds
    local w t
    w=$(wakes "$ECHO_PID") t=$(ticks "$ECHO_PID")
    sleep 2
    echo "woken $(($(wakes "$ECHO_PID") - w)) times, $(($(ticks "$ECHO_PID") - t)) ticks"
    [ "$(wakes "$ECHO_PID")" = "$w" ] && [ "$(ticks "$ECHO_PID")" = "$t" ]
}
lab_link 1500
check "zest echo starts" start_echo || finish
sleep 1 # the interface's own first frames
check "asleep before anyone came" stays_asleep
check "it echoes" echo_random 1M
sleep 1 # the last timers of those connections
check "asleep after the last one left" stays_asleep
peer socat -u TCP:$LAB_ZEST_IP:7 STDOUT >/dev/null &
holder=$!
sleep 3
check "asleep with a connection that says nothing" stays_asleep
kill $holder
check "it ends in order" stop_echo
finish
