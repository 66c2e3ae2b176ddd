#!/bin/bash
# Links break: with a transfer going on, either side goes down and comes up again, the interface is
# renamed, its MTU and queues change, others try to take the XDP program off, the interface is
# deleted. What can go on goes on, with every byte intact; what can't ends in a clear sentence. And in
# each case all memory comes home.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp
command -v pv >/dev/null || {
    echo "needs pv"
    exit 77
}

# slow_echo: SIZE bytes through the echo in about three seconds, in the background; echoed waits for it
slow_echo() {
    head -c "$SIZE" /dev/urandom >"$LAB_TMP/in"
    rm -f "$LAB_TMP/out"
    {
        pv -q -L $((SIZE / 3)) "$LAB_TMP/in" |
            peer timeout 300 socat -b 16384 -t 120 - TCP:$LAB_ZEST_IP:7 >"$LAB_TMP/out"
    } 2>"$LAB_TMP/client.log" &
    CLIENT=$!
    lab_await test -s "$LAB_TMP/out"
}
echoed() {
    wait "$CLIENT"
    cat "$LAB_TMP/client.log"
    cmp "$LAB_TMP/in" "$LAB_TMP/out"
}
SIZE=6000000

# Faults that pass: every byte arrives, and soon after the link is back.
while IFS='|' read -r what command sentence; do
    lab_link 1500
    check "zest echo starts" start_echo || finish
    slow_echo
    check "$what: $command" bash -c "$command"
    [ -n "$sentence" ] && check "$what: it says so" soon_said "$sentence"
    check "$what: every byte comes back" echoed
    check "$what: all memory home" stop_echo
    check "$what: no connection ended in an error" echo_said ', 0 ended in an error,'
    ip link del zz0 2>/dev/null
    lab_unlink
done <<'END'
our side flaps|ip link set z0 down; sleep 1.5; ip link set z0 up|z0 is up again
their side flaps|ip -n peer link set p0 down; sleep 1.5; ip -n peer link set p0 up|z0 has no carrier
a carrier that flutters|for i in 1 2 3 4 5; do ip -n peer link set p0 down; ip -n peer link set p0 up; done|
another name|ip link set z0 name zz0|the interface is now called zz0
a larger MTU|ip link set z0 mtu 3000|z0: its MTU is now 3000; a restart
a smaller MTU on both sides|ip -n peer link set p0 mtu 1000; ip link set z0 mtu 1000|z0: its MTU is now 1000
someone takes XDP off|! ip link set z0 xdp off|
more queues here|ethtool -L z0 rx 2 tx 2|
more queues there|nsenter --net=/run/netns/peer ethtool -L p0 rx 2|
END

# The timer does not decide when it goes on: after sixteen seconds of silence it would run out in nine
# more at the earliest (of a series that doubles, from 0.2 s or 1 s); the transfer moves before that.
lab_link 1500
check "zest echo starts" start_echo || finish
slow_echo
ip link set z0 down
sleep 16
before=$(stat -c %s "$LAB_TMP/out")
ip link set z0 up
moved() { [ "$(stat -c %s "$LAB_TMP/out")" -gt "$before" ]; }
LAB_PATIENCE_S=8
check "after a long time down it goes on at once" lab_await moved
LAB_PATIENCE_S=60
check "and every byte comes back" echoed
check "all memory home" stop_echo
lab_unlink

# A ring that stalls: the socket takes what it is given, and nothing ever comes back. It is closed and
# opened anew, on the same queue; with two queues, the other one goes on.
export STALL=$LAB_TMP/stall DEAF=$LAB_TMP/deaf
stalled_echo() { # stalled_echo OPTION...
    export LD_PRELOAD=$BUILD/system/stall.so
    start_echo "$@"
    local status=$?
    unset LD_PRELOAD
    return $status
}
for queues in 1 2; do
    lab_link 1500 $queues
    check "zest echo starts, $queues of $queues queues" stalled_echo --queues $queues --counters || finish
    slow_echo
    touch "$STALL"
    check "a ring that stalls: it is said" soon_said 'z0 keeps what it is given: nothing of [0-9]+ descriptors came back'
    rm -f "$STALL"
    check "it is opened anew" soon_said 'z0: its socket was opened anew'
    check "and gives back again" soon_said 'z0 gives back again what it is given'
    check "every byte comes back" echoed
    check "a connection that is opened now works, too" echo_random 1M
    check "all memory home" stop_echo
    check "no connection ended in an error" grep -q ', 0 ended in an error,' "$LAB_TMP/echo.log"
    check "it is counted" grep -q 'its socket was opened anew 1 times' "$LAB_TMP/echo.log"
    lab_unlink
done

# A socket that goes deaf: it sends, and nothing comes in any more. It is found out by what is not
# answered, and opened anew. (A Linux peer with two queues would take the other one after its first time-out,
# and so be heard, unless it is told not to.)
for queues in 1 2; do
    lab_link 1500 $queues
    [ $queues = 1 ] || peer sysctl -qw net.core.txrehash=0 2>/dev/null || {
        skipped "a deaf socket, of two: this kernel has no net.core.txrehash"
        lab_unlink
        continue
    }
    check "zest echo starts, $queues of $queues queues" stalled_echo --queues $queues --counters || finish
    slow_echo
    touch "$DEAF"
    check "a socket that goes deaf is opened anew, and hears: it is said" soon_said 'z0 was deaf: nothing came in for [0-9]+ s though frames were sent'
    rm -f "$DEAF"
    check "every byte comes back" echoed
    check "a connection that is opened now works, too" echo_random 1M
    check "all memory home" stop_echo
    check "no connection ended in an error" grep -q ', 0 ended in an error,' "$LAB_TMP/echo.log"
    check "nothing else was said" test "$(grep -c 'zest: ' "$LAB_TMP/echo.log")" = 1
    lab_unlink
done

# A peer that dies is no deaf socket: nothing is said of it, and when it is back, all goes on. This one
# does not read, so that there is something to ask it all the time: whether it has room.
falls_silent() { # what it sends goes to a cable of its own; to drop it in the peer would be told its TCP
    ip -n peer link add d0 type veth peer name d1 && ip -n peer link set d0 up && ip -n peer link set d1 up &&
        ip -n peer neigh add $LAB_ZEST_IP dev d0 lladdr 02:00:00:00:00:99 &&
        ip -n peer link set p0 arp off && ip -n peer route add $LAB_ZEST_IP/32 dev d0
}
speaks_again() { ip -n peer link del d0 && ip -n peer link set p0 arp on; }
lab_link 1500
check "zest echo starts" start_echo --counters || finish
(head -c 4000000 /dev/zero && exec sleep 300) | peer timeout 300 socat -u - TCP:$LAB_ZEST_IP:7 &
CLIENT=$!
has_no_room() { [ "$(peer ss -Htn state established 'dport = :7' | awk '{ print $1 }')" -gt 50000 ]; }
check "a client that does not read" lab_await has_no_room
check "falls silent" falls_silent
sleep 45
check "and speaks again" speaks_again
check "a connection that is opened now works" echo_random 1M
kill "$CLIENT"
check "all memory home" stop_echo
check "nothing was said" bash -c "! grep 'zest: ' '$LAB_TMP/echo.log'"
check "its socket was opened anew once" grep -q 'its socket was opened anew 1 times' "$LAB_TMP/echo.log"
lab_unlink

# Faults that do not pass.
for command in "ip link del z0" "ip -n peer link del p0"; do
    lab_link 1500
    check "zest echo starts" start_echo || finish
    slow_echo
    check "$command" bash -c "$command"
    check "it says that the interface is gone" soon_said 'z0 is gone'
    check "it ends, all memory home" echo_gives_up
    kill "$CLIENT" 2>/dev/null
    wait "$CLIENT" 2>/dev/null
    lab_unlink
done

# Our program is taken off by force, which the kernel tells nobody: a server that hears nothing any more
# finds out within half a minute, and ends.
link_of_zest() { "$ZEST" doctor z0 | sed -nE 's/.*\(zest_xdp\) .*by link ([0-9]+) .*/\1/p' | head -n 1; }
for queues in 1 2; do
    command -v bpftool >/dev/null || {
        skipped "the XDP program taken off, $queues queues: no bpftool"
        continue
    }
    lab_link 1500 $queues
    check "zest echo starts, attached by a link" start_echo --attach link --queues $queues || finish
    check "it works" echo_random 1M
    check "bpftool link detach" bpftool link detach id "$(link_of_zest)"
    check "it is said, with what to do" soon_said "z0: somebody took zest's XDP program off.*restart"
    check "it ends, all memory home" echo_gives_up
    check "it is said once" test "$(grep -c 'program off' "$LAB_TMP/echo.log")" = 1
    check "the next start works at once" start_echo
    check "and echoes" echo_random 1M
    check "all memory home" stop_echo
    lab_unlink
done

# TAP: the kernel's side.
has_tun || {
    skipped "faults of a TAP: no /dev/net/tun"
    finish
}
tap_link() {
    LAB_LINK=(--tap t0 --ip 10.78.0.2/24 --host-ip 10.78.0.1/24)
    LAB_TAP_IP=10.78.0.2
}
tap_echo() {
    head -c 3000000 /dev/urandom >"$LAB_TMP/in"
    rm -f "$LAB_TMP/out"
    (pv -q -L 1000000 "$LAB_TMP/in" | timeout 300 socat -b 16384 -t 120 - TCP:$LAB_TAP_IP:7 >"$LAB_TMP/out") 2>"$LAB_TMP/client.log" &
    CLIENT=$!
    lab_await test -s "$LAB_TMP/out"
}
tap_link
while IFS='|' read -r what command sentence; do
    check "TAP: zest echo starts" start_echo || finish
    tap_echo
    check "TAP, $what: $command" bash -c "$command"
    check "TAP, $what: it says so" soon_said "$sentence"
    check "TAP, $what: every byte comes back" echoed
    check "TAP, $what: all memory home" stop_echo
done <<'END'
the host's side flaps|ip link set t0 down; sleep 1.5; ip link set t0 up|t0 is up again
another name|ip link set t0 name tt0|the interface is now called tt0
a smaller MTU|ip link set t0 mtu 1300|t0: its MTU is now 1300
END
check "TAP: zest echo starts" start_echo || finish
tap_echo
ip link del t0
check "TAP, deleted: it says so" soon_said 't0 is gone'
check "TAP, deleted: it ends, all memory home" echo_gives_up
kill "$CLIENT" 2>/dev/null
finish
