#!/bin/bash
# The TAP link by itself: frames of all sizes, both ways, and what is said when it can't be had. As
# root, the host's side of the interface is an AF_XDP reflector; without, only opening is tested.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs tap
needs tun
FRAMES=$BUILD/system/netif_frames

reflected() { # reflected MTU: through the TAP, and back
    local reflector status
    start_frames reflect reflect xdp:z0:10.77.0.20
    reflector=$FRAMES_PID
    timeout 120 "$FRAMES" verify "tap:z0:10.77.0.10:mtu=$1" "$(sed -n 's/.*mac=//p' "$LAB_TMP/reflect.log")" 10.77.0.20 20000
    status=$?
    lab_stop $reflector || status=1
    cat "$LAB_TMP/reflect.log"
    return $status
}

holds() { # holds LINK COMMAND...: a process has that link open, and COMMAND succeeds meanwhile
    local status
    start_frames hold hold "$1" || return 1
    shift
    "$@"
    status=$?
    lab_stop "$FRAMES_PID" && [ $status = 0 ]
}
check "it makes an interface, with an address" holds tap:z1:10.77.0.10:10.77.0.1/24 \
    bash -c "ip addr show z1 | grep 'inet 10.77.0.1/24' && ip link show z1 | grep -w UP"
check "which goes with it" says 'does not exist' ip link show z1
check "an MTU of its own" holds tap:z1:10.77.0.10:mtu=4000 bash -c "ip link show z1 | grep 'mtu 4000'"
check "an address that is none" says '10.0.0.1/33 is not an IPv4 address' "$FRAMES" info tap:z1:10.77.0.10:10.0.0.1/33
check "a name that is too long" says 'at most 15 characters' "$FRAMES" info tap:z123456789012345:10.77.0.10
ip link add v0 type veth peer name v1
check "an interface that is no TAP" says 'v0: that interface is something else' "$FRAMES" info tap:v0:10.77.0.10
ip tuntap add dev z0 mode tap
check "one that is there is attached to" bash -c "'$FRAMES' info tap:z0:10.77.0.10 | grep '^tap z0'"
start_frames hold hold tap:z0:10.77.0.10
holder=$FRAMES_PID
check "one that another process has" says 'z0: another process has it' "$FRAMES" info tap:z0:10.77.0.10
kill $holder
wait $holder
if [ "$LAB" = xdp ]; then
    check "no right to make one" says 'cap_net_admin' setpriv --bounding-set -all --reuid 0 "$FRAMES" info tap:z2:10.77.0.10
    for mtu in 1500 3400; do
        ip link set z0 mtu $mtu up
        check "MTU $mtu: every byte comes back" reflected $mtu
    done
else
    skipped "frames through a TAP: the other end here needs root"
fi
start_frames reflect reflect tap:z0:10.77.0.10
ip link del z0
check "deleted under us: it ends in order" lab_stop "$FRAMES_PID"
finish
