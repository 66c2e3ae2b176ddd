#!/bin/bash
# Frames larger than a page: AF_XDP takes and sends each as several descriptors. Random bytes through
# zest echo at an MTU of 9000 and at the largest that there is, in native and generic mode, from an
# ordinary Linux client; pings of 64 KiB; zest to zest in full segments, none of them copied.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp

# ping_of BYTES: an ICMP echo request of so many bytes of data, all of them zero; the answer is as
# long. RFC 1071: zeros change no sum, so the checksum is that of the type.
ping_of() {
    local want=$(($1 + 8)) pinger
    rm -f "$LAB_TMP/pong"
    { printf '\x08\x00\xf7\xff\x00\x00\x00\x00' && head -c "$1" /dev/zero; } >"$LAB_TMP/ping"
    "${PEER[@]}" socat -b 65535 -t 600 - "IP4-SENDTO:$LAB_ZEST_IP:1" <"$LAB_TMP/ping" >"$LAB_TMP/pong" &
    pinger=$!
    lab_await test -s "$LAB_TMP/pong"
    kill $pinger
    wait $pinger 2>/dev/null
    echo "sent $want, got $(stat -c %s "$LAB_TMP/pong")"
    [ "$(stat -c %s "$LAB_TMP/pong")" = "$want" ]
}
no_drops() { ! grep -E ' drop_(tcp_csum|eth_chain|tcp_no_memory)' "$LAB_TMP/echo.log"; }

size=${CHECK_BYTES:-256M}
for variant in "9000 auto" "65535 auto" "9000 generic" "3763 auto" "65535 copy"; do
    read -r mtu mode <<<"$variant"
    lab_link "$mtu"
    check "zest echo starts (MTU $mtu, --mode $mode)" start_echo --mode "$mode" --counters || finish
    check "its MTU is the interface's" grep "MTU $mtu," "$LAB_TMP/echo.log"
    check "$size come back intact (MTU $mtu, $mode)" echo_random "$size"
    check "a ping of 3000 bytes" ping_of 3000
    check "a ping of a full frame" ping_of $((mtu - 28))
    check "a single byte" echo_random 1
    check "it ends in order, all memory home" stop_echo
    check "no byte was copied to be sent" echo_said ', 0 ended in an error, .* 0 bytes copied$'
    check "no frame was dropped" no_drops
    lab_unlink
    size=16M
done

# Both ends zest: full segments from where they were written.
for mtu in 9000 65535; do
    lab_link "$mtu"
    check "zest perf -s (MTU $mtu)" lab_start server "${PEER[@]}" "$ZEST" perf -s -I p0 --ip $LAB_OTHER_IP/24 || finish
    check "zest to zest, every byte checked (MTU $mtu)" timeout 120 "$ZEST" perf -c $LAB_OTHER_IP "${LAB_LINK[@]}" -n 64M --verify -i 0 -J
    check "and back" bash -c "timeout 120 '$ZEST' perf -c $LAB_OTHER_IP ${LAB_LINK[*]} -n 64M -R --verify -i 0 -J"
    check "the server ends in order" lab_stop "$LAB_PID"
    lab_unlink
done
finish
