#!/bin/bash
# What goes wrong is said: the thing is named, and what to do about it. Usage errors end with 2, others
# with 1, and nothing is ever left over.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs tap

# says STATUS PATTERN COMMAND...
says() {
    local want=$1 pattern=$2 status
    shift 2
    timeout 120 "$@" >"$LAB_TMP/said" 2>&1
    status=$?
    cat "$LAB_TMP/said"
    [ $status = "$want" ] && grep -qE -- "$pattern" "$LAB_TMP/said"
}
zest() { "$ZEST" "$@"; }
export -f zest
export ZEST

check "no command: the list of them" says 2 'zest perf' "$ZEST"
check "an unknown command" says 2 "there is no command 'eko'" "$ZEST" eko
check "--version" says 0 '^zest [0-9]+\.[0-9]+\.[0-9]+$' "$ZEST" --version
check "--help" says 0 '^  zest echo ' "$ZEST" --help
for c in echo perf; do
    check "$c --help" says 0 '^  -I, --interface IF' "$ZEST" $c --help
    check "$c: an unknown option" says 2 "--nonsense" "$ZEST" $c --nonsense
    check "$c: an unknown letter" says 2 "there is no option '-Z'" "$ZEST" $c -Z
    check "$c: an option without its value" says 2 '--port needs a value' "$ZEST" $c -p
    check "$c: an argument too many" says 2 "'extra' makes no sense" "$ZEST" $c extra
    check "$c: a bad port" says 2 "--port: 70000 is not between 1 and 65535" "$ZEST" $c -p 70000
    check "$c: a bad size" says 2 "--pool: '12Q' is not a size" "$ZEST" $c --pool 12Q
    check "$c: a bad address" says 2 "--ip: '10.0.0.300' is not an IPv4 address" "$ZEST" $c --ip 10.0.0.300
    check "$c: a bad prefix" says 2 "--ip: '10.0.0.2/33' has no prefix length" "$ZEST" $c --ip 10.0.0.2/33
    check "$c: a bad mode" says 2 "--mode: 'fast' is none of: auto, native" "$ZEST" $c --mode fast
    check "$c: a ring that is no power of two" says 2 'not a power of two' "$ZEST" $c --ring 1000
done
check "echo: no link" says 2 'which link' "$ZEST" echo
check "echo: two links" says 2 'more than one link' "$ZEST" echo -I z0 --tap z1 --ip 10.0.0.2
check "echo: no address" says 2 'Give --ip' "$ZEST" echo -I z0
check "echo: --mtu with AF_XDP" says 2 "ip link set z0 mtu 1400" "$ZEST" echo -I z0 --ip 10.0.0.2 --mtu 1400
check "perf: neither client nor server" says 2 'one of -s' "$ZEST" perf
check "perf: both" says 2 'one of -s' "$ZEST" perf -s -c 10.0.0.1
check "perf: -i with an interface" says 2 'the interface is given with -I' "$ZEST" perf -s -i eth0
check "perf: --kernel with a link" says 2 "leave -I" "$ZEST" perf --kernel -s -I z0
check "perf: nobody listens" says 1 "is 'zest perf -s' running there" "$ZEST" perf --kernel -c 127.0.0.1
check "perf: a server" lab_start server "$ZEST" perf --kernel -s -p 5299
check "perf: a taken port" says 1 'port 5299: that port is taken' "$ZEST" perf --kernel -s -p 5299
check "it ends in order" lab_stop "$LAB_PID"
check "a pool larger than there is memory" says 1 'try a smaller --pool' \
    bash -c 'ulimit -v 2000000; "$ZEST" echo --tap z9 --ip 10.0.0.2 --pool 8G'
check "a pool with too little left for data: says how large it must be" says 1 'make it --pool 14M at least' \
    "$ZEST" perf --mem --mtu 65000 --pool 8M -n 1M
check "of that size it does" "$ZEST" perf --mem --mtu 65000 --pool 14M -n 1M
if has_tun; then
    check "an interface that is no TAP" says 1 'lo: that interface is something else' "$ZEST" echo --tap lo --ip 10.0.0.2
    check "the same on two queues" says 1 'lo: that interface is something else' "$ZEST" echo --tap lo --ip 10.0.0.2 --queues 2
fi
check "no such interface" says 1 'nosuch0' "$ZEST" echo -I nosuch0 --ip 10.0.0.2/24

if [ "$LAB" = xdp ]; then
    lab_link 1500
    ip addr add 10.77.0.9/24 dev z0
    check "the host's own address" says 2 "already this host's own \(on z0\)" "$ZEST" echo -I z0 --ip 10.77.0.9
    check "no such queue" says 1 'queue' "$ZEST" echo "${LAB_LINK[@]}" --queue 5
    check "zero-copy on veth" says 1 'zero-copy' "$ZEST" echo "${LAB_LINK[@]}" --mode zero-copy
    check "a pool that the ring does not fit into" says 1 'make it --pool 14M at least' "$ZEST" echo "${LAB_LINK[@]}" --pool 8M
    check "a pool that the stack does not fit into" says 1 'make it --pool 14M at least' "$ZEST" echo "${LAB_LINK[@]}" --pool 10M
    check "zest echo starts" start_echo
    check "a second one on the same queue" says 1 'z0' "$ZEST" echo -I z0 --ip 10.77.0.4/24
    check "the first one still works" echo_random 1M
    check "and ends in order" stop_echo
    check "perf: nobody at that address" says 1 'no such neighbour' "$ZEST" perf -c 10.77.0.99 "${LAB_LINK[@]}"
    check "perf: nobody listens there" says 1 "is 'zest perf -s' running there" "$ZEST" perf -c $LAB_PEER_IP "${LAB_LINK[@]}"
    check "no root" says 1 'root|CAP_' setpriv --reuid 65534 --clear-groups "$ZEST" echo "${LAB_LINK[@]}"

    # A peer that leaves checksums to hardware: found out, and the mend is printed.
    peer ethtool -K p0 tx on >/dev/null
    check "zest echo starts" start_echo
    "${PEER[@]}" socat -u OPEN:/dev/null TCP:$LAB_ZEST_IP:7 2>/dev/null &
    client=$!
    check "missing checksums are explained" soon_said 'ethtool -K'
    kill $client
    check "it ends in order" stop_echo
    lab_unlink
else
    check "AF_XDP without root" says 1 'root|CAP_' "$ZEST" echo -I lo --ip 10.0.0.2/24
fi
finish
