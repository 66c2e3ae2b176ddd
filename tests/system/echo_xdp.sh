#!/bin/bash
# The main job: random bytes through zest echo over AF_XDP, from an ordinary Linux client, intact,
# nothing copied when sending, every segment home at the end. In each mode that veth has, and at the
# MTUs that the demo measures.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp

size=${CHECK_BYTES:-64M}
for variant in "1500 auto" "3400 auto" "1500 generic" "1500 copy" "576 auto"; do
    read -r mtu mode <<<"$variant"
    lab_link "$mtu"
    check "zest echo starts (MTU $mtu, --mode $mode)" start_echo --mode "$mode" || finish
    check "$size come back intact (MTU $mtu, $mode)" echo_random "$size"
    check "what zest sends of its own, too: a single byte" echo_random 1
    check "and nothing at all" echo_random 0
    check "it ends in order, all memory home" stop_echo
    check "it counted 3 connections and no error" echo_said ' 3 connections, 0 ended in an error,'
    lab_unlink
    size=8M
done
finish
