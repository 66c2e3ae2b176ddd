#!/bin/bash
# zest perf: every mode, zest to Linux, Linux to zest, zest to zest and Linux to Linux, with every byte
# checked; and what it prints. Figures are not judged here: that is for bench/.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs tap

memory=("$ZEST" perf --mem)
# client OPTION...: a test of 16 MB (or 2,000 round trips); its JSON says that nothing was wrong
client() {
    local out
    out=$(timeout 120 "$@" -J) || return 1
    echo "$out"
    [ "$(json error <<<"$out")" = "" ] && [ "$(json bad_bytes <<<"$out")" = 0 ]
}
sent_all() { # sent_all NAME BYTES COMMAND...
    local name=$1 bytes=$2
    shift 2
    client "$@" >"$LAB_TMP/out" || { cat "$LAB_TMP/out"; return 1; }
    cat "$LAB_TMP/out"
    [ "$(json "$name" <"$LAB_TMP/out")" = "$bytes" ]
}
all_modes() { # all_modes WHO COMMAND...
    local who=$1
    shift
    check "$who: send" sent_all sent_bytes 16777216 "$@" -n 16M --verify
    check "$who: receive" sent_all received_bytes 16777216 "$@" -n 16M -R --verify
    check "$who: both ways" sent_all sent_bytes 16777216 "$@" -n 16M --bidir --verify
    check "$who: 8 at a time" sent_all received_bytes 16777216 "$@" -n 16M -R -P 8 --verify
    check "$who: 8 at a time, both ways" sent_all received_bytes 16777216 "$@" -n 16M --bidir -P 8 --verify
    check "$who: round trips" sent_all transactions 2000 "$@" -n 2000 --rr --verify
    check "$who: round trips of 20,000 bytes, 4 at a time" sent_all transactions 400 "$@" -n 400 -l 20000 -P 4 --rr --verify
    check "$who: by time" client "$@" -t 0.3 --verify
    check "$who: by time, both ways" client "$@" -t 0.3 --bidir --verify
    check "$who: writes of 100 bytes" sent_all sent_bytes 200000 "$@" -n 200000 -l 100 --verify
    check "$who: writes of 64 KiB" sent_all sent_bytes 16777216 "$@" -n 16M -l 64K --verify
    check "$who: one byte" sent_all sent_bytes 1 "$@" -n 1 --verify
}
serve() { # serve COMMAND...
    lab_start server "$@" && SERVER=$LAB_PID
}
unserve() {
    lab_stop "$SERVER"
    local status=$?
    cat "$LAB_TMP/server.log"
    [ $status = 0 ]
}

all_modes "in memory" "${memory[@]}"
check "in memory, jumbo frames, gather" client "${memory[@]}" --mtu 9000 --gather always -n 64M -l 64K --bidir --verify
nothing_copied() {
    client "${memory[@]}" "$@" >"$LAB_TMP/out" && cat "$LAB_TMP/out" && [ "$(json copied_bytes <"$LAB_TMP/out")" = 0 ]
}
check "full segments in the headroom layout: nothing copied" nothing_copied -n 64M --verify
check "chains made as frames: nothing copied, which is made sure of" nothing_copied --frames --no-copy -n 64M --verify
check "the same the other way, of an odd length" nothing_copied --frames --no-copy -n 20000001 -l 20000 -R --verify
copies() { # and says so: it can't do without
    local out
    out=$("${memory[@]}" "$@" 2>&1) && return 1
    echo "$out"
    grep -q -- '--no-copy: [0-9]* bytes were copied' <<<"$out"
}
check "writes of 20,000 bytes without gather, but nothing may be copied: fails" copies -n 2M -l 20000 --no-copy
check "gather: nothing copied, wherever the bytes lie" nothing_copied --gather always -n 64M -l 20000 --verify

# Far more is to be sent at once than there is memory for: whoever is refused is called when some comes home.
waits() {
    client "${memory[@]}" --pool 8M -P 32 -n 16M -l 128000 --verify >"$LAB_TMP/out" && cat "$LAB_TMP/out" &&
        [ "$(json sent_bytes <"$LAB_TMP/out")" = 16777216 ] && [ "$(json memory_waits <"$LAB_TMP/out")" -gt 0 ]
}
check "a pool that is too small for 32 streams: they wait for memory, and all arrives" waits

check "Linux to Linux: server" serve "$ZEST" perf --kernel -s
all_modes "Linux to Linux" "$ZEST" perf --kernel -c 127.0.0.1
check "Linux to Linux: the server ends in order" unserve

lab_link 1500
if [ "$LAB" = xdp ]; then
    check "zest to Linux: server" serve "${PEER[@]}" "$ZEST" perf --kernel -s
    all_modes "zest to Linux" "$ZEST" perf -c $LAB_PEER_IP "${LAB_LINK[@]}"
    check "zest to Linux: the server ends in order" unserve
    check "zest to zest: server" serve "${PEER[@]}" "$ZEST" perf -s -I p0 --ip 10.77.0.3/24
    all_modes "zest to zest" "$ZEST" perf -c 10.77.0.3 "${LAB_LINK[@]}"
    check "zest to zest: the server ends in order, all memory home" unserve
fi
check "Linux to zest: server" serve "$ZEST" perf -s "${LAB_LINK[@]}"
all_modes "Linux to zest" ${PEER[@]+"${PEER[@]}"} "$ZEST" perf --kernel -c $LAB_ZEST_IP
check "Linux to zest: the server ends in order, all memory home" unserve

# A client that is interrupted says what it had, and leaves the server well.
check "a server for one test (-1)" serve "$ZEST" perf -s -1 "${LAB_LINK[@]}"
interrupted() {
    # A shell starts background jobs with SIGINT ignored.
    ${PEER[@]+"${PEER[@]}"} env --default-signal=INT "$ZEST" perf --kernel -c $LAB_ZEST_IP -t 3600 -i 0 &
    local client=$! status
    more_moved z0 1000000
    kill -INT $client
    wait $client
    status=$?
    echo "status $status"
    wait "$SERVER" && [ $status = 1 ]
}
check "an interrupted client reports, and its server ends" interrupted
stranger() { # not zest perf: refused, and the server lives on
    head -c 100000 /dev/urandom | peer timeout 120 socat -t 100 - TCP:$LAB_ZEST_IP:5201 >/dev/null
    alive "$SERVER" && client ${PEER[@]+"${PEER[@]}"} "$ZEST" perf --kernel -c $LAB_ZEST_IP -n 1M --verify
}
check "a server" serve "$ZEST" perf -s "${LAB_LINK[@]}"
check "a client that talks nonsense is refused, the next one is served" stranger
check "it ends in order, all memory home" unserve
finish
