#!/bin/bash
# The echo over a bad cable: 1 % of the frames lost, 2 % reordered, 1 % doubled, each way. LOSSY_BYTES
# sets how much (8M; the full run is LOSSY_BYTES=1G).
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp

size=${LOSSY_BYTES:-8M}
lab_bridged_link 1500 --seed "${SEED:-1}" --loss 1 --reorder 2 --dup 1
check "zest echo starts" start_echo --counters || finish
check "$size come back intact over a cable that loses 1 %, reorders 2 %, doubles 1 %" echo_random "$size" 3000
check "20 connections at a time over the same cable" \
    peer "$BUILD/system/echoload" $LAB_ZEST_IP 7 --conns 20 --bytes 200000
check "it ends in order, all memory home" stop_echo
lab_unlink
check "the cable was a bad one" grep -qE 'lost [1-9][0-9]* doubled [1-9][0-9]* held back [1-9]' "$LAB_TMP/bridge.log"

# Corruption: nearly every corrupted frame fails a checksum; what does not (two errors that cancel)
# is not made here, as one bit is turned a frame.
lab_bridged_link 1500 --seed "${SEED:-1}" --corrupt 0.5 --delay 500
check "zest echo starts" start_echo --counters || finish
check "4M come back intact though bits turn in 0.5 % of the frames" echo_random 4M 600
check "it ends in order, all memory home" stop_echo
check "corrupted segments were counted" grep -qE 'drop_(tcp_csum|ip_csum)' "$LAB_TMP/echo.log"
lab_unlink
finish
