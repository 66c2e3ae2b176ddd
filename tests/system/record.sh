#!/bin/bash
# --record and zest replay (and what --pcap wrote of the same runs): a run over a bad cable plays again bit for bit; one
# byte changed is found; what is left after an abort and in a storm of time-outs can be played, too.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"

R=$LAB_TMP/recording
replays() { # replays FILE: identical, and the same hash twice
    local first second
    first=$("$ZEST" replay "$1") || { echo "$first"; return 1; }
    second=$("$ZEST" replay "$1")
    echo "$first"
    grep -qE '^replay: identical, [1-9][0-9]* inputs, hash [0-9a-f]{16}$' <<<"$first" && [ "$first" = "$second" ]
}
refuses() { # refuses PATTERN FILE: with status 1, and says so
    local out status
    out=$("$ZEST" replay "$2" 2>&1)
    status=$?
    echo "status $status: $out"
    [ $status = 1 ] && grep -qE "$1" <<<"$out"
}
poke() { # poke FILE OFFSET: another byte there
    local old
    old=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf "\\x$(printf %x $((old ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
no_complaint() { # no_complaint FILE: tshark finds nothing malformed and no wrong checksum
    local out
    out=$(tshark -n -r "$1" -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE \
        -Y "$MISFORMED" 2>&1 | grep -v 'Running as user')
    echo "$out" | head -n 5
    [ -z "$out" ]
}
fields() { tshark -n -r "$1" -T fields -e frame.interface_name -e frame.packet_flags_direction 2>/dev/null; }
both_ways() { # both_ways FILE NAME: frames in and out, on that interface
    fields "$1" | sort | uniq -c
    fields "$1" | grep -qE "^$2	(0x0+)?1\$" && fields "$1" | grep -qE "^$2	(0x0+)?2\$"
}

# ---- in memory: both ends

check "perf in memory, recorded and captured" timeout 120 "$ZEST" perf --mem -n 4M --bidir --verify --record "$R" --pcap "$LAB_TMP/mem.pcapng"
check "the one end plays again" replays "$R"
check "so does the other" replays "$R.1"
cp "$R" "$LAB_TMP/poked"
poke "$LAB_TMP/poked" $(($(stat -c %s "$R") - 1))
check "one byte changed: it says which call" refuses '^replay: differs at input [0-9]+, zest_' "$LAB_TMP/poked"
head -c 100000 "$R" >"$LAB_TMP/short"
check "cut short: an error" refuses '^replay: (damaged at byte|identical up to)' "$LAB_TMP/short"
head -c 100000 /dev/urandom >"$LAB_TMP/noise"
check "noise: an error" refuses 'is not a recording' "$LAB_TMP/noise"
check "an empty file: an error" refuses 'is not a recording' /dev/null
check "no file: an error" refuses 'cannot read' "$LAB_TMP/none"
check "too little memory for all of it: the end is there" bash -c \
    '"$1" perf --mem -n 64M --record "$2" --record-max 1M 2>&1 | grep "covers the end of the run"' - "$ZEST" "$R"
check "it plays, from where it begins" bash -c '"$1" replay "$2" | grep "it begins at .* with 1 connection"' - "$ZEST" "$R"
check "so does the other" replays "$R.1"
check "a capture ends at its size" bash -c \
    '"$1" perf --mem -n 4M --pcap "$2" --pcap-max 1M 2>&1 | grep "after the file was full" && [ "$(stat -c %s "$2")" -le 1048576 ]' - "$ZEST" "$LAB_TMP/small.pcapng"
if command -v tshark >/dev/null; then
    check "tshark: nothing malformed, every checksum right" no_complaint "$LAB_TMP/mem.pcapng"
    check "tshark: the small one is whole, too" no_complaint "$LAB_TMP/small.pcapng"
else
    skipped "opening captures: tshark is not installed"
fi

# ---- the echo over a bad cable

[ "$LAB" = xdp ] || { skipped "a bad cable: needs root"; finish; }
lab_bridged_link 1500 --seed "${SEED:-1}" --loss 1 --reorder 2 --dup 1
check "zest echo starts" start_echo --record "$R" --record-max 256M --pcap "$LAB_TMP/echo.pcapng" || finish
check "4M come back intact over a bad cable" echo_random 4M
check "20 connections at a time" peer "$BUILD/system/echoload" $LAB_ZEST_IP 7 --conns 20 --bytes 50000
check "it ends in order, all memory home" stop_echo
check "it plays again" replays "$R"
if command -v tshark >/dev/null; then
    check "tshark: nothing malformed, every checksum right" no_complaint "$LAB_TMP/echo.pcapng"
    check "tshark: both ways, on z0" both_ways "$LAB_TMP/echo.pcapng" z0
fi

rm "$R"
check "zest echo starts" start_echo --record "$R" --record-max 1M || finish
check "1M come back" echo_random 1M 300
kill -ABRT "$ECHO_PID"
check "it ends by that" timeout 120 tail --pid "$ECHO_PID" -f /dev/null
check "after an abort, the newest part of the recording is there and plays" replays "$R"
lab_unlink

# A cable that is cut while a hundred connections have something in flight.
lab_bridged_link 1500
check "zest echo starts" start_echo --record "$R" || finish
peer timeout 120 "$BUILD/system/echoload" $LAB_ZEST_IP 7 --conns 100 --bytes 100000000 >/dev/null 2>&1 &
LOAD=$!
all_at_work() { lab_await established 100 7 && more_moved z0 20000000; }
check "a hundred connections are at work" all_at_work
kill -STOP "$LAB_BRIDGE"
check "a storm of time-outs: it says that it saves" soon_said 'time-outs within a second; the recording is saved'
cp "$R" "$LAB_TMP/storm"
check "what was saved then plays" replays "$LAB_TMP/storm"
kill "$LOAD" 2>/dev/null
wait "$LOAD" 2>/dev/null
kill -CONT "$LAB_BRIDGE"
check "it ends in order, all memory home" stop_echo
check "all of it plays" replays "$R"
lab_unlink
finish
