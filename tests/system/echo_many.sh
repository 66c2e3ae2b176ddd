#!/bin/bash
# Many connections: at the same time, one after another, slow readers beside quick ones, clients that
# break off. The server lives through all of it and every segment is home at the end.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp

load() { peer "$BUILD/system/echoload" $LAB_ZEST_IP 7 "$@"; }
used() { sed -nE 's/.*pool ([0-9.]+ [A-Za-z]+) of.*/\1/p' "$LAB_TMP/echo.log" | tail -n 1; }
settled() { # the pool holds the receive ring, which may have grown to all of its 2048 pages, and no more
    lab_await few && return
    echo "now: $(used)"
    return 1
}
few() { case $(used) in [0-8]\ MiB | [0-7].[0-9]\ MiB | *\ KiB) ;; *) false ;; esac; }
lab_link 1500

check "zest echo starts" start_echo -i 0.2 --counters || finish
check "1,000 connections at a time, 100 KB each" load --conns 1000 --bytes 100000
check "10,000 opened and closed one after another" load --turns "${TURNS:-10000}" --bytes 1000
check "20 connections that are reset in the middle, beside 20 that are not" load --conns 20 --reset 20 --bytes 1000000
check "quick ones finish while 1 other reads 10 KB/s" load --conns 4 --slow 1 --rate 10240 --bytes 50000000
check "quick ones finish while 40 others read 10 KB/s" load --conns 4 --slow 40 --rate 10240 --bytes 10000000
check "the server is still there" alive "$ECHO_PID"
check "the pool is back to what it held with nobody there" settled
check "it ends in order, all memory home" stop_echo

# A pool so small that the clients fill it: slower, but every byte comes.
check "zest echo starts with a pool of 16 MiB" start_echo --pool 16M --ring 512 || finish
check "200 connections at a time, 200 KB each" load --conns 200 --bytes 200000
check "it ends in order, all memory home" stop_echo
lab_unlink
finish
