#!/bin/bash
# The AF_XDP link by itself, without a stack: every byte of frames of all sizes, what is taken from the
# kernel and what is left to it, that nothing stays behind however a process ends, and what is said.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp
FRAMES=$BUILD/system/netif_frames
N=20000

attached() { ip -d link show "$1" | grep -o 'prog/xdp'; }
not_attached() { ! attached "$1"; }
start_reflector() { # on the peer's side
    rm -f "$LAB_TMP/reflect.log"
    "${PEER[@]}" "$FRAMES" reflect "xdp:p0:10.77.0.20${1:-}" >"$LAB_TMP/reflect.log" 2>&1 &
    REFLECTOR=$!
    lab_await open_or_dead $REFLECTOR "$LAB_TMP/reflect.log"
    PEER_MAC=$(sed -n 's/.*mac=//p' "$LAB_TMP/reflect.log")
    cat "$LAB_TMP/reflect.log"
    [ -n "$PEER_MAC" ]
}
stop_reflector() {
    lab_stop "$REFLECTOR"
    local status=$?
    cat "$LAB_TMP/reflect.log"
    [ $status = 0 ] && ! grep -qi libbpf "$LAB_TMP/reflect.log"
}
verify() { timeout 120 "$FRAMES" verify "xdp:z0:10.77.0.10$1" "$PEER_MAC" 10.77.0.20 "${2:-$N}"; }
one_line() { # on standard error
    "$@" 2>&1 >/dev/null | tee "$LAB_TMP/lines"
    [ "$(wc -l <"$LAB_TMP/lines")" = 1 ]
}
silent() { [ -z "$("$@" 2>&1 >/dev/null | tee /dev/stderr)" ]; }

for mtu in 1500 3400 9000 65535; do
    lab_link $mtu
    check "MTU $mtu: a reflector" start_reflector || finish
    check "MTU $mtu: every byte comes back" verify ""
    check "MTU $mtu: the same from two descriptors a frame" verify :gather
    [ $mtu = 1500 ] && check "the same in generic mode" verify :generic
    check "MTU $mtu: the reflector ends in order" stop_reflector
    lab_unlink
done

lab_link 1500
ip addr add 10.77.0.3/24 dev z0
check "it opens without a word on standard error" silent "$FRAMES" info xdp:z0:10.77.0.10
check "the mode is what was asked for" bash -c "'$FRAMES' info xdp:z0:10.77.0.10:generic | grep mode=generic"
check "gather is had where the kernel has it" bash -c "'$FRAMES' info xdp:z0:10.77.0.10:gather | grep gather=1"

# The kernel keeps what is its own.
start_frames hold hold xdp:z0:10.77.0.10:link
holder=$FRAMES_PID
check "the program is attached" attached z0
socat -u TCP-LISTEN:99,bind=10.77.0.3 STDOUT >"$LAB_TMP/kernel" &
server=$!
lab_await listens 99
head -c 300000 /dev/urandom >"$LAB_TMP/sent"
peer timeout 120 socat -u "$LAB_TMP/sent" TCP:10.77.0.3:99
wait $server
check "the kernel's own traffic goes on beside it" cmp "$LAB_TMP/sent" "$LAB_TMP/kernel"
check "a second one on the same interface is refused" says 'XDP program [0-9]+ \(zest_xdp\) is attached' "$FRAMES" info xdp:z0:10.77.0.11
ip link add z1 type veth peer name p1
ip link set z1 up
check "one on another interface works beside it" "$FRAMES" info xdp:z1:10.77.0.11
kill -KILL $holder
wait $holder 2>/dev/null
check "after kill -9 the next one opens at once" "$FRAMES" info xdp:z0:10.77.0.10
check "and leaves nothing" not_attached z0
start_frames hold hold xdp:z0:10.77.0.10
holder=$FRAMES_PID
check "SIGTERM ends it in order" lab_stop $holder
check "and nothing is left" not_attached z0

# A pool that is nearly all receive ring: frames are lost, not the link.
check "a reflector with a small pool" start_reflector :pool=12
check "frames go through a small pool" verify ""
check "it ends in order" stop_reflector

# Cables are pulled.
check "a reflector" start_reflector
# Frames that were lost it waits for until it is told to end.
start_frames verify verify xdp:z0:10.77.0.10 "$PEER_MAC" 10.77.0.20 100000000
verifier=$FRAMES_PID
more_moved z0 1000000
ip link set z0 down
sleep 0.3
ip link set z0 up
kill $verifier
wait $verifier
check "down and up again: nothing is leaked or repeated" bash -c "! grep -E 'netif_frames:|bug' '$LAB_TMP/verify.log'"
check "and it works again" verify ""
start_frames hold hold xdp:z0:10.77.0.10
holder=$FRAMES_PID
ip link del z0
check "the interface is deleted under the reflector: it ends in order" stop_reflector
check "and under one that waits" lab_stop $holder
ip netns del peer

# What is said.
lab_link 1500
umount /sys/fs/bpf 2>/dev/null
check "no bpf file system is needed" silent "$FRAMES" info xdp:z0:10.77.0.10
check "no native XDP: one line says so" one_line "$FRAMES" info xdp:lo:127.0.0.9
check "native XDP where there is none" says 'no native XDP; generic mode' "$FRAMES" info xdp:lo:127.0.0.9:native
check "zero-copy where there is none" says 'no zero-copy AF_XDP' "$FRAMES" info xdp:z0:10.77.0.10:zero-copy
check "no such interface" says '^nosuch: there is no such interface' "$FRAMES" info xdp:nosuch:10.77.0.10
check "a pool too small" says 'cannot set .* MiB aside' "$FRAMES" info xdp:z0:10.77.0.10:pool=4
check "no root" says 'root, or the capabilit' setpriv --reuid 65534 --clear-groups "$FRAMES" info xdp:z0:10.77.0.10
check "memory may not be locked" says 'ulimit -l' setpriv --bounding-set -ipc_lock,-sys_resource --inh-caps -ipc_lock,-sys_resource \
    prlimit --memlock=65536 "$FRAMES" info xdp:z0:10.77.0.10
ip link set z0 down
check "an interface that is down" says 'ip link set dev z0 up' "$FRAMES" info xdp:z0:10.77.0.10
finish
