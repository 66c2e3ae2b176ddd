#!/bin/bash
# zest doctor: right about veth, TAP, a missing capability, another's XDP program, an MTU of 9000 and what
# else can be made here; and its mends are run, and mend. (virtio: tests/unit/apps_doctor_test.c, and
# in the virtual machine.)
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs tap

D=$LAB_TMP/doctor.json
# finding LEVEL TOPIC PATTERN INTERFACE [PREFIX...]: the doctor finds that
finding() {
    local level=$1 topic=$2 pattern=$3 if=$4
    shift 4
    "$@" "$ZEST" doctor $if --json >"$D" 2>&1
    grep -oE '\{"level":[^}]*\}' "$D" | tee "$LAB_TMP/findings" |
        grep -F "{\"level\":\"$level\",\"topic\":\"$topic\"" | grep -E -- "$pattern" && return
    cat "$LAB_TMP/findings" "$D"
    return 1
}
not() { ! "$@"; }
# mended LEVEL TOPIC INTERFACE: does what the finding says, and the finding is gone
mended() {
    local mend
    finding "$1" "$2" . "$3" >"$LAB_TMP/mend" || { cat "$LAB_TMP/mend"; return 1; }
    mend=$(sed -E 's/.*"mend":"([^"]*)".*/\1/; s/   \(.*//' "$LAB_TMP/mend" | head -n 1)
    echo "mend: $mend"
    [ -n "$mend" ] && sh -c "$mend" || return 1
    lab_await not finding "$1" "$2" . "$3"
}
status() { # status N COMMAND...
    local want=$1 got
    shift
    "$@" >"$LAB_TMP/out" 2>&1
    got=$?
    cat "$LAB_TMP/out"
    [ $got = "$want" ]
}
is_json() { # if there is something here to read it with
    "$@" >"$D" || [ $? = 1 ] || return 1
    cat "$D"
    [ "$(wc -l <"$D")" = 1 ] || return 1
    ! command -v python3 >/dev/null || python3 -m json.tool <"$D" >/dev/null
}

# ---- anywhere

check "--help" status 0 "$ZEST" doctor --help
check "no such interface" status 1 "$ZEST" doctor nosuch
check "two interfaces" status 2 "$ZEST" doctor lo z0
check "the host: it is JSON" is_json "$ZEST" doctor --json
check "the host: the kernel is named" grep -F "Linux $(uname -r)" "$D"
check "lo has generic XDP only" finding note native-xdp generic lo
if [ "$LAB" != xdp ]; then
    check "a user namespace has no AF_XDP" finding problem capabilities 'user namespace|missing' ""
    check "and the status says so" status 1 "$ZEST" doctor
    finish
    exit
fi

# ---- veth

lab_link 1500
check "a veth pair in order: status 0" status 0 "$ZEST" doctor z0
check "it is JSON" is_json "$ZEST" doctor z0 --json
check "native XDP" finding ok native-xdp veth z0
check "no zero-copy" finding note zero-copy veth z0
check "gather" finding ok gather 'up to 4' z0
check "what a start would get" grep -F '"expected":"AF_XDP, native, copy, up to 4 descriptors a frame"' "$D"
check "and it gets that" bash -c "'$BUILD/system/netif_frames' info xdp:z0:10.77.0.10:gather | tee /dev/stderr | grep 'mode=copy' | grep 'gather=1'"
check "--try opens a link and measures" status 0 "$ZEST" doctor z0 --try
check "that is copy mode" grep -E '^z0: tried: AF_XDP copy .no zero-copy: the driver has none., MTU 1500, [0-9]+ frames a send call; (a frame takes|what)' "$LAB_TMP/out"
check "--try --json" is_json "$ZEST" doctor z0 --try --json
check "says so, too" grep -E '"tried":\{"works":true,"error":"","mode":"copy","mtu":1500,"gather":true' "$D"
check "nothing stays behind" finding ok xdp-attached . z0
check "--try needs an interface" status 2 "$ZEST" doctor --try
check "checksums are there" finding ok peer-checksums p0 z0
check "a start in zero-copy mode says why not" bash -c "
    timeout 120 '$ZEST' echo -I z0 --ip 10.77.0.11/24 --mode zero-copy 2>&1 | tee /dev/stderr | grep 'doctor: zero-copy: veth has none'"
peer ethtool -K p0 tx on >/dev/null
check "checksums are missing" finding warning peer-checksums 'ip netns exec peer ethtool -K p0 tx off' z0
check "its mend mends" mended warning peer-checksums z0
peer ip link set p0 down
check "the other end is down" finding warning peer 'dev p0 up' z0
check "its mend mends" mended warning peer z0
peer ip link set p0 mtu 2000
check "the other end's MTU" finding warning peer-mtu '1500 here and 2000' z0
check "its mend mends" mended warning peer-mtu z0
ip link set z0 down
check "it is down: status 1" status 1 "$ZEST" doctor z0
check "its mend mends" mended problem link z0
ip link set z0 mtu 9000
peer ip link set p0 mtu 9000
check "an MTU of 9000: all of it is used" finding ok mtu '9000: frames of more than a page' z0
check "that is what a start gets" bash -c "'$BUILD/system/netif_frames' info xdp:z0:10.77.0.10 | tee /dev/stderr | grep mtu=9000"
check "and says" grep -F '"tried":{"works":true,"error":"","mode":"copy","mtu":9000,' <("$ZEST" doctor z0 --try --json)
ip link set z0 mtu 1500
peer ip link set p0 mtu 1500
ip link add q0 numrxqueues 2 numtxqueues 2 type veth peer name q1
ip link set q0 up
ip link set q1 up
ethtool -L q0 rx 2 >/dev/null
check "two queues" finding warning queues '2 receive queues' q0
check "its mend mends" mended warning queues q0
check "a third queue there is none of" status 1 "$ZEST" doctor q0 --queue 2

# Without a name, a namespace is found by a process in it.
unshare --net sleep 3600 &
sleeper=$!
elsewhere() { [ "$(readlink /proc/$sleeper/ns/net)" != "$(readlink /proc/self/ns/net)" ]; }
lab_await elsewhere
ip link add n0 type veth peer name n1 netns $sleeper
ip link set n0 up
nsenter -t $sleeper -n ip link set n1 up
check "a namespace without a name" finding warning peer-checksums "nsenter -t $sleeper -n ethtool -K n1 tx off" n0
check "its mend mends" mended warning peer-checksums n0
kill $sleeper
ip link del n0 2>/dev/null

# ---- others' programs

start_frames hold hold xdp:z0:10.77.0.10
holder=$FRAMES_PID
check "a program by a link, and whose" finding problem xdp-attached "zest_xdp.*native, by link [0-9]+ of process $holder \(netif_frames" z0
check "a start says so, and what to do" bash -c "
    timeout 120 '$ZEST' echo -I z0 --ip 10.77.0.11/24 2>&1 | tee /dev/stderr | grep -F '# kill $holder'"
check "its mend mends" mended problem xdp-attached z0
wait $holder 2>/dev/null
if command -v bpftool >/dev/null; then
    start_frames hold hold xdp:z0:10.77.0.10
    holder=$FRAMES_PID
    finding problem xdp-attached . z0 >"$LAB_TMP/link"
    bpftool link pin id "$(sed -nE 's/.*by link ([0-9]+) .*/\1/p' "$LAB_TMP/link" | head -n 1)" /sys/fs/bpf/pinned
    kill -KILL $holder
    wait $holder 2>/dev/null
    check "a pinned link that outlived its process" finding problem xdp-attached 'native, by link [0-9]+, pinned at /sys/fs/bpf/pinned' z0
    check "its mend mends" mended problem xdp-attached z0
else
    skipped "a pinned link: no bpftool"
fi
if ip link set dev z0 xdpgeneric obj "$BUILD/netif/xdp_kern.bpf.o" sec xdp.frags 2>"$LAB_TMP/ip.log"; then
    check "a program that netlink attached, generic" finding problem xdp-attached 'generic, attached by netlink' z0
    check "its mend mends" mended problem xdp-attached z0
    ip link set dev z0 xdpdrv obj "$BUILD/netif/xdp_kern.bpf.o" sec xdp.frags
    check "native" finding problem xdp-attached 'native, attached by netlink' z0
    check "its mend mends" mended problem xdp-attached z0
else
    skipped "a program that netlink attached: $(tail -n 1 "$LAB_TMP/ip.log")"
fi
check "with all that mended, zest starts" start_echo
check "and says how it sends, and why" grep -E 'payload without headroom is (copied|gathered)(, [+-]|: what)' "$LAB_TMP/echo.log"
check "and works" echo_random 1M
check "and ends" stop_echo
for way in always:gathered never:copied; do
    check "--gather ${way%:*}: it starts" start_echo --gather "${way%:*}"
    check "and says so" grep "payload without headroom is ${way#*:}, as --gather says" "$LAB_TMP/echo.log"
    check "and ends" stop_echo
done

# ---- TAP

if has_tun; then
    ip tuntap add dev t0 mode tap
    ip link set t0 up
    check "a TAP" finding note tap '--tap t0' t0
    check "which nobody has open" finding warning link 'no process' t0
    ip tuntap add dev t1 mode tun
    check "a TUN carries no Ethernet" finding problem tap 'no Ethernet' t1
else
    skipped "a TAP: no /dev/net/tun"
fi
export -f has_tun
check "every interface has its line" bash -c '
    "$0" doctor | tee "$1" >&2; for i in lo z0 q0 $(has_tun && echo t0 t1); do grep -q "^$i " "$1" || exit 1; done' "$ZEST" "$LAB_TMP/all"

# ---- rights

for cap in net_admin net_raw; do
    without=(setpriv --bounding-set -$cap --inh-caps -$cap)
    check "without cap_$cap" finding problem capabilities "missing: CAP_${cap^^} .*--cap-add ${cap^^}" "" "${without[@]}"
    check "without cap_$cap: status 1" status 1 "${without[@]}" "$ZEST" doctor z0
done
without=(setpriv --bounding-set -bpf,-sys_admin --inh-caps -bpf,-sys_admin)
check "without cap_bpf" finding problem capabilities 'missing: CAP_BPF ' "" "${without[@]}"
check "a start without it says so" bash -c '
    timeout 120 "$@" 2>&1 | tee /dev/stderr | grep "missing: CAP_BPF"' - "${without[@]}" "$ZEST" echo "${LAB_LINK[@]}"
without=(setpriv --bounding-set -bpf --inh-caps -bpf)
check "cap_sys_admin does for it" finding ok capabilities . "" "${without[@]}"
nobody=(setpriv --reuid 65534 --clear-groups)
check "not root: what a file could have" finding problem capabilities "setcap cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock.ep" "" "${nobody[@]}"
start_frames hold hold xdp:z0:10.77.0.10
holder=$FRAMES_PID
check "not root: an XDP program's number is known, its owner not" \
    finding problem xdp-attached 'only root may know.*sudo .*zest doctor z0' z0 "${nobody[@]}"
lab_stop $holder
without=(setpriv --bounding-set -ipc_lock,-sys_resource --inh-caps -ipc_lock,-sys_resource prlimit --memlock=65536)
check "memory may not be locked" finding problem memlock '64 KiB.*prlimit' "" "${without[@]}"
umount /sys/fs/bpf
check "no bpf file system" finding note bpf-fs 'mount -t bpf' ""
check "its mend mends" mended note bpf-fs ""
lab_unlink
finish
