#!/bin/bash
# libpcap as a link: live on a veth pair, with the interface's MAC address and with one of our own; and
# a capture file as input, whose answers are those that were given when it was made.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp

C=$LAB_TMP/c.pcapng D=$LAB_TMP/d.pcapng
lab_link 1500
for promisc in "" --promisc; do
    LAB_LINK=(--pcap-live z0 --ip $LAB_ZEST_IP/24 $promisc)
    check "zest echo starts (live${promisc:+, promiscuous})" start_echo --counters --pcap "$C" || finish
    check "4M come back intact" echo_random 4M
    check "30 connections at a time" peer "$BUILD/system/echoload" $LAB_ZEST_IP 7 --conns 30 --bytes 50000
    check "it ends in order, all memory home" stop_echo
    mac=$(cat /sys/class/net/z0/address)
    known=$(ip -n peer neigh show $LAB_ZEST_IP | grep -o 'lladdr [0-9a-f:]*' | cut -d' ' -f2)
    if [ -n "$promisc" ]; then
        check "it had a MAC address of its own" test "$known" != "$mac"
    else
        check "it had the interface's MAC address" test "$known" = "$mac"
    fi
    check "our own frames did not come back to us" bash -c '! grep -E "drop_eth_not_ours|drop_ip_source" "$1"' - "$LAB_TMP/echo.log"
    ip -n peer neigh flush all
done

# What came in goes in once more, from the file; the stack has other secrets, so the connections of
# then are not understood, but every SYN is answered.
check "the file as input, fast" bash -c \
    'timeout 120 "$1" echo --pcap-read "$2" --pcap-fast --ip '$LAB_ZEST_IP'/24 --counters --pcap "$3" >"$4" 2>&1' - "$ZEST" "$C" "$D" "$LAB_TMP/read.log"
tail -n 30 "$LAB_TMP/read.log" >"$LAB_TMP/tail.log"
check "its frames went through the stack" grep -qE 'rx_frames +[0-9]{3,}' "$LAB_TMP/read.log"
if command -v tshark >/dev/null; then
    syns() { tshark -n -r "$1" -Y "$2" -T fields -e tcp.stream 2>/dev/null | sort -u | wc -l; }
    check "each SYN in it was answered" bash -c 'echo "$1 SYNs, $2 answered"; [ "$1" -gt 0 ] && [ "$1" = "$2" ]' - \
        "$(syns "$C" 'tcp.flags.syn == 1 && tcp.flags.ack == 0')" "$(syns "$D" 'tcp.flags.syn == 1 && tcp.flags.ack == 1')"
fi
tcpdump=$LAB_TMP/two.pcap
# A SYN that nobody answers is sent again after a second.
two_syns() {
    local dumper client
    ip -n peer neigh replace 10.77.0.2 lladdr 02:00:00:00:00:77 dev p0
    "${PEER[@]}" timeout 120 tcpdump -q -i p0 -U -c 2 -w "$tcpdump" "tcp dst port 7" 2>"$LAB_TMP/tcpdump.log" &
    dumper=$!
    lab_await grep -q 'listening on' "$LAB_TMP/tcpdump.log"
    "${PEER[@]}" socat -u OPEN:/dev/null TCP:10.77.0.2:7 &
    client=$!
    wait $dumper
    kill $client
    cat "$LAB_TMP/tcpdump.log"
    grep '^2 packets captured' "$LAB_TMP/tcpdump.log"
}
command -v tcpdump >/dev/null || {
    skipped "a file at its own pace: tcpdump is not installed"
    finish
}
check "a file of two SYNs, a second apart" two_syns
slow() { # at its own pace: not in less time than it covers
    local from=$SECONDS
    timeout 120 "$ZEST" echo --pcap-read "$tcpdump" --ip $LAB_ZEST_IP/24 --counters >"$LAB_TMP/slow.log" 2>&1 || return 1
    cat "$LAB_TMP/slow.log"
    [ $((SECONDS - from)) -ge 1 ] && grep -qE 'rx_frames +2 ' "$LAB_TMP/slow.log"
}
check "at its own pace, it takes its time" slow

check "no such interface" says 'there is no interface nope' "$ZEST" echo --pcap-live nope --ip 10.77.0.2/24
check "no such file" says 'No such file' "$ZEST" echo --pcap-read /nope --ip 10.77.0.2/24
check "no capture file" says 'unknown file format|bad dump file' "$ZEST" echo --pcap-read "$ZEST" --ip 10.77.0.2/24
check "a file without a frame to us" says 'no frame in it is to 10.99.0.1' "$ZEST" echo --pcap-read "$tcpdump" --ip 10.99.0.1/24
check "no right to it" says 'cap_net_raw|permission' setpriv --bounding-set -all --reuid 65534 --clear-groups "$ZEST" echo --pcap-live z0 --ip 10.77.0.2/24
LAB_LINK=(--pcap-live z0 --ip $LAB_ZEST_IP/24)
check "zest echo starts" start_echo || finish
ip link del z0
check "deleted under us: it says so" soon_said "is gone"
check "and ends, all memory home" echo_gives_up
finish
