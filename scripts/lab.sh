# lab.sh - a network of one's own to run zest in, that can't outlive its user. Sourced by scripts/demo
# and tests/system/*.sh.
#
# lab_enter runs the calling script again inside new network, mount and PID namespaces that have no
# names on this host. The script is their process 1: when it ends, however it ends, the kernel kills
# everything in them and drops the namespaces, and with them the interfaces and XDP programs. Outside
# stays a watcher that dies with the script and the script with it. So there is nothing to clean up,
# nothing that two runs could fight over, and kill -9 of any part leaves nothing behind.
#
#   LAB=xdp   root: two namespaces joined by a veth pair; z0 here is zest's, p0 in "peer" is Linux's
#   LAB=tap   no root: one user namespace; zest makes a TAP interface in it
#   LAB=none  not even that: what runs must need no network (links in memory)

LAB_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LAB_ZEST_IP=10.77.0.2
LAB_PEER_IP=10.77.0.1
LAB_OTHER_IP=10.77.0.3 # of a zest on the peer's side
PATH=$PATH:/usr/sbin:/sbin

# What can be had here? LAB_ONLY=tap|none asks for less than could be had.
lab_kind() {
    if [ "${LAB_ONLY:-xdp}" = xdp ] && [ "$(id -u)" = 0 ] &&
        unshare --net --mount --pid --fork --kill-child --mount-proc sh -c 'mount -t tmpfs lab /run && ip link add z0 type veth peer name p0' 2>/dev/null; then
        echo xdp
    elif [ "${LAB_ONLY:-tap}" != none ] &&
        unshare -Ur --net --mount --pid --fork --kill-child --mount-proc sh -c 'mount -t tmpfs lab /run && ip tuntap add dev z0 mode tap' 2>/dev/null; then
        echo tap
    else
        echo none
    fi
}

# lab_enter ARG...: in the first instance of the script, does not return. LAB is set on return.
lab_enter() {
    if [ -n "${LAB_INSIDE:-}" ]; then
        LAB=$LAB_INSIDE
        lab_inside
        return
    fi
    local kind user=()
    kind=$(lab_kind)
    [ "$kind" = tap ] && user=(-Ur)
    if [ "$kind" = none ]; then
        LAB_INSIDE=none exec bash "$0" "$@"
    fi
    # --kill-child and --pdeathsig make a chain: each dies with the one above it. Standard input is
    # kept by hand, as bash gives /dev/null to what it starts with &.
    LAB_INSIDE=$kind setpriv --pdeathsig KILL unshare ${user[@]+"${user[@]}"} --net --mount --pid --fork \
        --kill-child=KILL --mount-proc bash "$0" "$@" <&0 &
    local child=$!
    trap 'lab_killed "$child" 130' INT
    trap 'lab_killed "$child" 143' TERM HUP
    wait "$child"
    local status=$?
    # What ends a script orderly never is a signal.
    [ $status -gt 128 ] && lab_broken
    exit $status
}
lab_killed() {
    trap - INT TERM HUP
    kill -KILL "$1" 2>/dev/null
    wait "$1" 2>/dev/null
    lab_broken
    exit "$2"
}
# The script may define what to say when it was killed.
lab_broken() { declare -F on_broken >/dev/null && on_broken; }

lab_inside() {
    LAB_TMP=
    if [ "$LAB" = none ]; then
        LAB_TMP=$(mktemp -d)
        trap 'rm -rf "$LAB_TMP"' EXIT
        return
    fi
    # Ours alone, gone with us: files, names of namespaces, pins of BPF programs. No IPv6, as nobody
    # here speaks it.
    mount -t tmpfs lab /run
    mkdir /run/lab /run/netns
    LAB_TMP=/run/lab
    if [ "$LAB" = xdp ]; then
        mount -t sysfs lab /sys 2>/dev/null
        mount -t bpf lab /sys/fs/bpf 2>/dev/null
    fi
    ip link set lo up
    no_ipv6
}

no_ipv6() { # no_ipv6 [COMMAND...]: in this namespace, or the one that COMMAND enters
    [ ! -d /proc/sys/net/ipv6 ] ||
        "$@" sh -c 'for f in all default; do echo 1 >/proc/sys/net/ipv6/conf/$f/disable_ipv6; done' 2>/dev/null
}

lab_netns() {
    ip netns add "$1"
    no_ipv6 ip netns exec "$1"
}

# A core for zest and one for its peer, of those that we may use; the same one if there is only one.
lab_cores() {
    local list
    list=$(taskset -cp $$ | sed 's/.*: //' | tr ',' '\n' | awk -F- '{ for (c = $1; c <= ($2 == "" ? $1 : $2); c++) print c }' | head -n 2)
    LAB_CORE=$(head -n 1 <<<"$list")
    LAB_PEER_CORE=$(tail -n 1 <<<"$list")
}

# lab_link MTU [QUEUES]: the link between zest and Linux. Afterwards "${LAB_LINK[@]}" are zest's options, and
# `peer COMMAND` runs something on the Linux side. A kernel peer on veth leaves checksums to hardware
# that is not there, and sends frames larger than the MTU, unless it is told not to.
lab_link() {
    local mtu=${1:-1500} queues=()
    [ "${2:-1}" -gt 1 ] && queues=(numrxqueues "$2" numtxqueues "$2")
    if [ "$LAB" = tap ]; then
        LAB_LINK=(--tap z0 --ip $LAB_ZEST_IP/24 --host-ip $LAB_PEER_IP/24 --mtu "$mtu")
        return
    fi
    lab_netns peer
    ip link add z0 ${queues[@]+"${queues[@]}"} mtu "$mtu" type veth peer name p0 ${queues[@]+"${queues[@]}"} mtu "$mtu" netns peer
    lab_peer_up p0
    ip link set z0 up
    LAB_LINK=(-I z0 --ip $LAB_ZEST_IP/24)
}
lab_peer_up() {
    ip -n peer link set lo up
    ip -n peer addr add $LAB_PEER_IP/24 dev "$1"
    # Receiving on the peer's own core (RPS): without, the kernel runs the peer's half of TCP on the
    # core of the one who sends. (With GRO it would merge the frames there before it hands them over.)
    ip netns exec peer ethtool -K "$1" tx off gso off tso off gro off >/dev/null
    lab_cores
    ip netns exec peer sh -c "printf %x $((1 << LAB_PEER_CORE)) >/sys/class/net/$1/queues/rx-0/rps_cpus" 2>/dev/null
    ip -n peer link set "$1" up
}

# lab_bridged_link MTU BRIDGE-OPTION...: the same, with a namespace in the middle whose bridge loses,
# delays, reorders and duplicates frames. The bridge's process is LAB_BRIDGE; it prints its counts to
# $LAB_TMP/bridge.log when it is told to end.
lab_bridged_link() {
    local mtu=$1 i
    shift
    lab_netns peer
    lab_netns middle
    ip link add z0 mtu "$mtu" type veth peer name m0 mtu "$mtu" netns middle
    ip -n middle link add m1 mtu "$mtu" type veth peer name p0 mtu "$mtu" netns peer
    for i in m0 m1; do
        # Frames must pass as they are: none joined, none that only claims a checksum.
        ip netns exec middle ethtool -K $i tx off gso off tso off gro off >/dev/null
        ip -n middle link set $i up
    done
    lab_peer_up p0
    ip link set z0 up
    lab_start bridge nsenter --net=/run/netns/middle "$BUILD/system/bridge" m0 m1 "$@" || return 1
    LAB_BRIDGE=$LAB_PID
    LAB_LINK=(-I z0 --ip $LAB_ZEST_IP/24)
}
lab_unlink() {
    [ -n "${LAB_BRIDGE:-}" ] && kill "$LAB_BRIDGE" 2>/dev/null && wait "$LAB_BRIDGE"
    LAB_BRIDGE=
    [ "$LAB" = xdp ] || return 0
    ip link del z0 2>/dev/null
    ip netns del peer 2>/dev/null
    ip netns del middle 2>/dev/null
    return 0
}

# On the Linux side. In the background, `"${PEER[@]}" COMMAND &` makes $! the command itself.
PEER=()
[ "${LAB_INSIDE:-}" = xdp ] && PEER=(nsenter --net=/run/netns/peer)
peer() { ${PEER[@]+"${PEER[@]}"} "$@"; }

# lab_await COMMAND...: as soon as that succeeds; 1, and what it says, if it does not within a minute. The
# machine may be slow, shared, or stopped for a while: how long something takes says nothing about it.
LAB_PATIENCE_S=60
lab_await() {
    local since=$SECONDS
    until "$@" >/dev/null 2>&1; do
        if [ $((SECONDS - since)) -ge $LAB_PATIENCE_S ]; then
            "$@"
            return
        fi
        sleep 0.05
    done
}
# How many bytes an interface of this namespace has carried, both ways.
lab_carried() { awk -v i="$1:" '$1 == i { print $2 + $10 }' /proc/net/dev; }

# lab_start NAME COMMAND...: starts a server in the background and waits until it says "ready".
# Its output goes to $LAB_TMP/NAME.log, its PID to LAB_PID. 1 (and its output) if it does not come up.
lab_start() {
    local name=$1
    shift
    : >"$LAB_TMP/$name.log"
    "$@" >"$LAB_TMP/$name.log" 2>&1 &
    LAB_PID=$!
    lab_await lab_up_or_dead "$LAB_PID" "$LAB_TMP/$name.log"
    grep -qw ready "$LAB_TMP/$name.log" && return 0
    cat "$LAB_TMP/$name.log" >&2
    kill -KILL "$LAB_PID" 2>/dev/null
    return 1
}
lab_dead() { ! kill -0 "$1" 2>/dev/null; }
lab_up_or_dead() { grep -qw ready "$2" || lab_dead "$1"; }
# lab_stop PID: asks it to end, waits for that, returns its status (137: it had to be killed).
lab_stop() {
    kill -TERM "$1" 2>/dev/null
    lab_await lab_dead "$1"
    kill -KILL "$1" 2>/dev/null
    wait "$1"
}
