#!/bin/bash
# The echo over TAP, as it runs without root: in a user namespace, the kernel's side of the interface
# in the same one.
. "$(dirname "$0")/lib.sh"
export LAB_ONLY=tap
lab_enter "$@"
needs tap

for mtu in 1500 9000; do
    for offload in "" --no-offload; do
        lab_link $mtu
        check "zest echo starts (TAP, MTU $mtu${offload:+, $offload})" start_echo --counters $offload || finish
        check "32M come back intact" echo_random 32M
        check "100 connections at a time" "$BUILD/system/echoload" $LAB_ZEST_IP 7 --conns 100 --bytes 100000
        check "it ends in order, all memory home" stop_echo
        check "nothing was copied to send it" bash -c '! grep tx_copied_bytes "$1"' - "$LAB_TMP/echo.log"
        check "no frame was dropped by the stack" bash -c '! grep -E "^ +drop_(tcp|ip)" "$1"' - "$LAB_TMP/echo.log"
    done
done

# What crosses it, as tshark sees it: frames far above the MTU both ways, and checksums that the
# capture has filled in.
C=$LAB_TMP/c.pcapng
shark() { tshark -n -r "$C" -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -Y "$1" 2>/dev/null | wc -l; }
large() { # large DIRECTION
    local n
    n=$(shark "frame.len > 40000 && frame.packet_flags_direction == $1")
    echo "$n frames of more than 40,000 bytes"
    [ "$n" -gt 0 ]
}
lab_link 1500
check "zest echo starts, captured" start_echo --pcap "$C" || finish
check "16M come back intact" echo_random 16M
check "it ends in order, all memory home" stop_echo
if command -v tshark >/dev/null; then
    check "frames of up to 64 KiB come in" large 1
    check "and go out" large 2
    check "none is malformed, no checksum wrong" test "$(shark "$MISFORMED")" = 0
else
    skipped "opening the capture: tshark is not installed"
fi
check "zest echo starts, captured, without offloads" start_echo --no-offload --pcap "$C" || finish
check "1M come back intact" echo_random 1M
check "it ends in order" stop_echo
command -v tshark >/dev/null && check "no frame is larger than the MTU" test "$(shark 'frame.len > 1514')" = 0

# Several queues: a stack and a thread for each.
check "zest echo starts on four queues" start_echo --queues 4 --counters || finish
check "100 connections at a time" "$BUILD/system/echoload" $LAB_ZEST_IP 7 --conns 100 --bytes 100000
check "32M come back intact" echo_random 32M
check "it ends in order, all memory home" stop_echo
every_queue() { # a thread that never had a connection has no such line
    [ "$(grep -c ' tcp_passive_opens ' "$LAB_TMP/echo.log")" = 4 ]
}
check "every queue had its part of the connections" every_queue
ip tuntap add dev z9 mode tap
check "several queues of an interface that has one: refused" bash -c \
    '"$1" echo --tap z9 --ip 10.77.0.2/24 --queues 2 2>&1 | grep "made with multi_queue"' - "$ZEST"
ip link del z9
ip tuntap add dev z9 mode tap multi_queue
check "one queue of an interface that may have several: refused" bash -c \
    '"$1" info tap:z9:10.77.0.10 2>&1 | grep "made with other options"' - "$BUILD/system/netif_frames"
finish
