#!/bin/bash
# What a capture tells: a lossy transfer as tshark sees it, which must find what zest counts; comments
# on what was dropped and what was sent again; a ring of the last seconds that is written when
# something goes wrong.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp
command -v tshark >/dev/null || {
    echo "needs tshark"
    exit 77
}

C=$LAB_TMP/c.pcapng
shark() { # shark FILE OPTION...: checksums are checked; what tshark says of root is left out
    local file=$1
    shift
    tshark -n -r "$file" -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE "$@" 2> >(grep -v 'Running as user' >&2)
}
frames() { shark "$1" -Y "$2" | wc -l; } # frames FILE FILTER
clean() { # clean FILE: there are frames, none malformed, no checksum wrong
    local bad
    bad=$(frames "$1" "$MISFORMED")
    echo "$bad bad frames of $(frames "$1" frame)"
    [ "$bad" = 0 ] && [ "$(frames "$1" frame)" -gt 0 ]
}
counted() { sed -nE "s/^ +$1 +([0-9]+) .*/\1/p" "$LAB_TMP/$2.log"; } # counted COUNTER LOG
# A capture made by the sender: what leaves out of order is a retransmission, whatever else tshark
# takes it for (by how soon it comes after the segment before it).
AGAIN='(tcp.analysis.retransmission || tcp.analysis.fast_retransmission || tcp.analysis.spurious_retransmission || tcp.analysis.out_of_order) && frame.packet_flags_direction == 2'
agree() { # agree FILE COUNT: tshark's count, zest's counter and zest's comments are the same number
    local theirs ours=$2 said
    theirs=$(frames "$1" "$AGAIN")
    said=$(frames "$1" 'frame.comment contains "retransmission"')
    echo "retransmissions: tshark $theirs, zest's counter $ours, its comments $said"
    [ "$theirs" = "$ours" ] && [ "$said" = "$ours" ] && [ "$ours" -gt 0 ]
}
commented() { # commented FILE TEXT [FILTER]: some frame says it, and the filter holds for each that does
    local all
    all=$(frames "$1" "frame.comment contains \"$2\"")
    echo "$all frames say '$2'"
    [ "$all" -gt 0 ] && [ "$(frames "$1" "frame.comment contains \"$2\" && (${3:-frame})")" = "$all" ]
}

# ---- one way, over cables that lose frames, and that do more than that

transfer() { # transfer BRIDGE-OPTION...
    rm -f "$C"
    lab_bridged_link 1500 --seed "${SEED:-1}" "$@"
    lab_start server "${PEER[@]}" "$ZEST" perf --kernel -s || return 1
    local server=$LAB_PID status
    timeout 120 "$ZEST" perf -c $LAB_PEER_IP "${LAB_LINK[@]}" -n 4M --verify --counters --pcap "$C" >"$LAB_TMP/client.log" 2>&1
    status=$?
    lab_stop "$server"
    lab_unlink
    tail -n 3 "$LAB_TMP/client.log"
    return $status
}
for cable in "--loss 1 --delay 300" "--loss 1 --reorder 2 --dup 1" "--loss 5,1"; do
    # shellcheck disable=SC2086  # options they are
    check "4M, captured ($cable)" transfer $cable || continue
    check "tshark: nothing malformed, every checksum right" clean "$C"
    check "tshark counts as many retransmissions as zest" agree "$C" "$(counted tcp_retransmits client)"
    check "those for the third duplicate ACK say so" commented "$C" "third duplicate ACK" 'tcp.len > 0 && frame.packet_flags_direction == 2'
done
check "those after a time-out say so" commented "$C" "retransmission: time-out"

# ---- what was dropped

lab_link 1500
check "zest echo starts" start_echo --pcap "$C" || finish
check "a port that nobody listens on" bash -c '! "$@"' - "${PEER[@]}" timeout 120 socat -u OPEN:/dev/null TCP:$LAB_ZEST_IP:9
check "UDP" "${PEER[@]}" bash -c "echo x >/dev/udp/$LAB_ZEST_IP/9"
check "checksums left to hardware that is not there" "${PEER[@]}" ethtool -K p0 tx on
"${PEER[@]}" socat -u OPEN:/dev/null TCP:$LAB_ZEST_IP:7 2>/dev/null &
client=$!
check "a client in vain" soon_said 'ethtool -K'
kill $client
check "it ends in order" stop_echo
check "a SYN to a closed port says that there is no connection" commented "$C" "(drop_tcp_no_conn)" 'tcp.flags.syn == 1 && tcp.dstport == 9'
check "UDP says that it is not spoken" commented "$C" "(drop_ip_proto)" 'udp.dstport == 9'
check "a checksum left out says so" commented "$C" "(drop_tcp_csum_partial)" 'tcp.dstport == 7'
lab_unlink

# ---- the last seconds

all_at_work() { lab_await established 100 7 && more_moved z0 20000000; }

frames_in() { frames "$C" frame; }
ring_echo() { rm -f "$C"; start_echo --pcap "$C" --pcap-ring "$@"; }
lab_link 1500
check "zest echo starts, with a ring" ring_echo 2 || finish
check "1M come back" echo_random 1M
check "nothing is written" test "$(frames_in)" = 0
kill -USR1 "$ECHO_PID"
check "SIGUSR1: it is written" soon_said "written as it stands"
check "tshark: nothing malformed, every checksum right" clean "$C"
check "the last frame says why" commented "$C" "saved here: SIGUSR1"
before=$(frames_in)
sleep 3
check "1M come back" echo_random 1M
# What it was sent and has not read makes the client's end a reset: all of "hello" is there once its first byte is.
"${PEER[@]}" bash -c "exec 3<>/dev/tcp/$LAB_ZEST_IP/7; echo hello >&3; read -r -n 1 -u 3; kill -KILL \$\$"
check "a connection is reset: that is written, too" soon_said "connection ended in an error: what led to it is in the capture"
check "it follows what was there" test "$(frames_in)" -gt "$before"
check "and ends with the reset" commented "$C" "saved here: a connection ended in an error" 'tcp.flags.reset == 1'
check "it ends in order, all memory home" stop_echo
check "the file is whole" clean "$C"

check "zest echo starts, with a ring of a second and 1M" ring_echo 1 --pcap-ring-max 1M || finish
check "16M come back" echo_random 16M
kill -ABRT "$ECHO_PID"
check "it ends by that" timeout 120 tail --pid "$ECHO_PID" -f /dev/null
wait "$ECHO_PID" 2>/dev/null
check "after an abort, what it had is there" clean "$C"
check "which is no more than the ring holds" test "$(stat -c %s "$C")" -lt 1100000
check "the last frame says why" commented "$C" "saved here: an assertion failed"
lab_unlink

# A cable that is cut while a hundred connections have something in flight.
lab_bridged_link 1500
check "zest echo starts, with a ring" ring_echo 2 || finish
peer timeout 120 "$BUILD/system/echoload" $LAB_ZEST_IP 7 --conns 100 --bytes 100000000 >/dev/null 2>&1 &
LOAD=$!
check "a hundred connections are at work" all_at_work
kill -STOP "$LAB_BRIDGE"
check "a storm of time-outs: it is written" soon_said 'storm of retransmission time-outs: what led to it is in the capture'
kill "$LOAD" 2>/dev/null
wait "$LOAD" 2>/dev/null
kill -CONT "$LAB_BRIDGE"
check "it ends in order, all memory home" stop_echo
check "with the reason of each" commented "$C" "retransmission: time-out" 'frame.packet_flags_direction == 2'
lab_unlink
check "a ring needs a file" bash -c '! "$1" echo -I z0 --ip 10.0.0.1/24 --pcap-ring 2 2>&1' - "$ZEST"
finish
