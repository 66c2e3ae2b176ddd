#!/bin/bash
# The echo over TAP, as it runs without root: in a user namespace, the kernel's side of the interface
# in the same one.
. "$(dirname "$0")/lib.sh"
export LAB_ONLY=tap
lab_enter "$@"
needs tap

for mtu in 1500 9000; do
    lab_link $mtu
    check "zest echo starts (TAP, MTU $mtu)" start_echo || finish
    check "32M come back intact (MTU $mtu)" echo_random 32M
    check "100 connections at a time" "$BUILD/system/echoload" $LAB_ZEST_IP 7 --conns 100 --bytes 100000
    check "it ends in order, all memory home" stop_echo
done
finish
