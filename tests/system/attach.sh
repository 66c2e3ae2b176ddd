#!/bin/bash
# How the XDP program is attached, and that it never stays in the way: killed at any moment, many times,
# by a link and by libxdp's dispatcher; beside other programs and other zest processes; foreign ones are
# left alone. The kernel, or a security module, may not have what the dispatcher needs: skipped then.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp
FRAMES=$BUILD/system/netif_frames
KILLS=${CHECK_KILLS:-30}
SERVER=()

attached() { ip -d link show z0 | grep -q 'prog/xdp'; }
nothing_left() { # neither attached nor pinned
    ip -d link show z0 | grep xdp
    ls -R /sys/fs/bpf/xdp 2>/dev/null
    ! attached && [ -z "$(ls /sys/fs/bpf/xdp 2>/dev/null)" ]
}
start() { # start HOW [OPTION...]
    local how=$1
    shift
    lab_start echo "$ZEST" echo "${LAB_LINK[@]}" --attach "$how" "$@" && ECHO_PID=$LAB_PID
}
# kills HOW [OPTION...]: starts, kills after a random time (while it opens, or later), and starts again at once.
kills() {
    local i pid works
    for ((i = 0; i < KILLS; i++)); do
        "$ZEST" echo "${LAB_LINK[@]}" --attach "$@" >/dev/null 2>&1 &
        pid=$!
        sleep 0.0$((RANDOM % 10))$((RANDOM % 10))
        kill -KILL $pid
        wait $pid 2>/dev/null
        if ((i % 5 == 4)); then
            start "$@" || return 1
            echo_random 64K
            works=$?
            kill -KILL "$ECHO_PID"
            wait "$ECHO_PID" 2>/dev/null
            [ $works = 0 ] || return 1
        fi
    done
    echo "killed $i times"
}
server() { # server QUEUE ADDRESS: zest perf -s there; its pid in SERVER[QUEUE]
    lab_start "server$1" "$ZEST" perf -s -I z0 --ip "$2/24" --queue "$1" --attach dispatcher -i 0 && SERVER[$1]=$LAB_PID
}
client() { # client QUEUE ADDRESS: from a zest on the peer's side, whose queue is the same one here
    "${PEER[@]}" timeout 120 "$ZEST" perf -c "$2" -I p0 --ip 10.77.0.21/24 --queue "$1" --attach link -n 1M -i 0 --verify
}

# ---- by a link: the kernel detaches it with the process

lab_link 1500
check "killed $KILLS times while it starts or runs, by link: it starts at once" kills link
check "and leaves nothing" nothing_left
check "a clean start" start link
check "a second one is refused, and says why" says 'XDP program [0-9]+ \(zest_xdp\) is attached' "$FRAMES" info xdp:z0:10.77.0.3:link:queue=0
check "it ends in order" stop_echo
check "nothing is left" nothing_left
umount /sys/fs/bpf
check "no bpf file system: the dispatcher can't, and says what it needs" \
    says 'needs a bpf file system: mount -t bpf' "$FRAMES" info xdp:z0:10.77.0.10:dispatcher
check "auto does without" start auto
check "it ends in order" stop_echo
mount -t bpf lab /sys/fs/bpf
lab_unlink

# ---- by the dispatcher

lab_link 1500 2
if ! "$FRAMES" info xdp:z0:10.77.0.10:dispatcher >"$LAB_TMP/info" 2>&1; then
    why=$(tail -n 1 "$LAB_TMP/info")
    check "where the dispatcher can't be had, auto attaches by a link" start auto
    check "and it works" echo_random 1M
    check "it ends in order" stop_echo
    check "nothing is left" nothing_left
    skipped "libxdp's dispatcher: $why"
    finish
fi
check "nothing is left of a short visit" nothing_left
check "auto is the dispatcher" start auto --queues 2
check "its programs are pinned" bash -c 'ls /sys/fs/bpf/xdp/dispatch-*/prog0-prog'
check "it works" echo_random 4M
check "it ends in order" stop_echo
check "nothing is left" nothing_left
check "killed $KILLS times while it starts or runs, by dispatcher: it starts at once" kills dispatcher --queues 2
attached || skipped "what a killed one leaves: it left nothing"
check "the next start removes what is left, by whatever way it attaches" start link --queues 2
check "it works" echo_random 1M
check "it ends in order" stop_echo
check "nothing is left" nothing_left

# A foreign program, of our own name even, without an owner: it stays.
check "a foreign program in the dispatcher" "$BUILD/system/foreign" attach z0 "$BUILD/netif/xdp_kern.bpf.o"
check "zest beside it" start dispatcher --queues 2
check "works" echo_random 1M
kill -KILL "$ECHO_PID"
wait "$ECHO_PID" 2>/dev/null
check "killed: the next one starts" start dispatcher --queues 2
check "it ends in order" stop_echo
check "the foreign program is still there, alone" "$BUILD/system/foreign" only z0
check "a link is refused beside it" says 'is attached already' "$FRAMES" info xdp:z0:10.77.0.10:link
check "it was not touched" "$BUILD/system/foreign" only z0
check "until its owner takes it away" "$BUILD/system/foreign" detach z0
check "nothing is left" nothing_left

# Others come and go beside ours, which is none of our business; but not if they take ours along.
check "zest by dispatcher" start dispatcher --queues 2
check "a program joins" "$BUILD/system/foreign" attach z0 "$BUILD/netif/xdp_kern.bpf.o"
check "zest goes on" echo_random 1M
check "the dispatcher is unloaded, with all that is in it" "$BUILD/system/foreign" detach z0
check "it is said" soon_said "z0: somebody took zest's XDP program off"
check "and it ends, all memory home" echo_gives_up
check "nothing is left" nothing_left
check "by dispatcher again" start dispatcher
check "the dispatcher is taken off, and its pins stay" "$BUILD/system/foreign" rip z0
check "it is said" soon_said "z0: somebody took zest's XDP program off"
check "and it ends, all memory home" echo_gives_up
check "nothing is left" nothing_left

# Two zest processes, a queue and an address each.
check "a process on queue 0" server 0 $LAB_ZEST_IP
check "another on queue 1" server 1 10.77.0.5
check "the first works" client 0 $LAB_ZEST_IP
check "the other works" client 1 10.77.0.5
check "a third has no queue left" says 'has an AF_XDP socket already, in another process' "$FRAMES" info xdp:z0:10.77.0.9:dispatcher
check "nor does a link have room" says 'is attached already' "$FRAMES" info xdp:z0:10.77.0.9:link
check "the first ends in order" lab_stop "${SERVER[0]}"
check "the other works on" client 1 10.77.0.5
check "one comes instead of the first" server 0 10.77.0.6
check "and works" client 0 10.77.0.6
kill -KILL "${SERVER[0]}"
wait "${SERVER[0]}" 2>/dev/null
check "killed, and there again" server 0 10.77.0.6
check "both work: one" client 0 10.77.0.6
check "both work: the other" client 1 10.77.0.5
check "both end in order: one" lab_stop "${SERVER[0]}"
check "both end in order: the other" lab_stop "${SERVER[1]}"
check "nothing is left" nothing_left
finish
