#!/bin/bash
# Beside the kernel: zest has some ports of the host's own address, the kernel all the rest, ARP and
# ping too; neither notices the other.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp
BESIDE=(-I z0 --ip host --ports 7,5000-5010)

lab_link 1500
HOST=$LAB_ZEST_IP # of the kernel now
ip addr add $HOST/24 dev z0
kernel_serves() { # 300 kB from a socket of the kernel's, on port $1
    socat -u TCP-LISTEN:"$1",bind=$HOST STDOUT >"$LAB_TMP/kernel" &
    local server=$!
    lab_await listens "$1"
    head -c 300000 /dev/urandom >"$LAB_TMP/sent"
    peer timeout 120 socat -u "$LAB_TMP/sent" TCP:$HOST:"$1"
    wait $server
    cmp "$LAB_TMP/sent" "$LAB_TMP/kernel"
}
refused() { # refused PORT: by whoever it belongs to
    peer timeout 120 socat -u /dev/null TCP:$HOST:"$1" 2>&1 | tee "$LAB_TMP/refused"
    grep -q 'Connection refused' "$LAB_TMP/refused"
}
resets() { nstat -saz TcpOutRsts | awk '/TcpOutRsts/ { print $2 }'; }
kernel_reset_nothing() {
    local now
    now=$(resets)
    echo "the kernel sent $RESETS resets, now $now"
    [ "$now" = "$RESETS" ]
}
taken() { # taken PORT: no socket of the kernel's can have it
    ! timeout 30 socat -u TCP-LISTEN:"$1",bind=$HOST STDOUT 2>&1 | tee "$LAB_TMP/taken" && return 1
    grep -q 'Address already in use' "$LAB_TMP/taken"
}
perf() { timeout 120 "$ZEST" perf -c $LAB_PEER_IP "${BESIDE[@]}" --verify -i 0 "$@"; }

check "what the XDP program takes" "$BUILD/system/verdicts" "$BUILD/netif/xdp_kern.bpf.o"
check "port 7 is closed, as the kernel says" refused 7
RESETS=$(resets)
check "zest echo on port 7 of the host's address" lab_start echo "$ZEST" echo "${BESIDE[@]}" || finish
ECHO_PID=$LAB_PID
check "it echoes" echo_random 8M
check "the kernel serves on another port" kernel_serves 99
echo_random 16M >"$LAB_TMP/echoed" &
both=$!
check "both at a time: the kernel" kernel_serves 98
wait $both
check "both at a time: zest" test $? = 0
check "the kernel has reset nothing" kernel_reset_nothing
check "a closed port of zest's is refused by zest" refused 5001
check "not by the kernel" kernel_reset_nothing
check "a closed port of the kernel's, by the kernel" refused 5011
RESETS=$(resets)
check "the kernel's sockets can't have a port of zest's" taken 7
check "they can have another" kernel_serves 5011
check "it ends in order, all memory home" stop_echo
check "nothing is left attached" bash -c "! ip link show z0 | grep -q xdp"
check "and port 7 is the kernel's again" refused 7
check "to listen on, too" kernel_serves 7

# Neighbours: the kernel asks, zest learns from it.
check "a Linux server" lab_start server "${PEER[@]}" "$ZEST" perf --kernel -s || finish
SERVER=$LAB_PID
ip neigh flush dev z0
check "nobody is known" bash -c "! ip neigh show dev z0 | grep -q lladdr"
check "connections of zest's own, from its ports" perf -P 8 -n 4M
check "the kernel has learned its neighbour on the way" bash -c "ip neigh show dev z0 | grep -q '$LAB_PEER_IP lladdr'"
check "again, now that it is known" perf -P 2 -n 1M
ip neigh replace $LAB_PEER_IP dev z0 lladdr "$(peer cat /sys/class/net/p0/address 2>/dev/null || ip -n peer -o link show p0 | sed 's/.*ether \([^ ]*\).*/\1/')" nud stale
check "again, when that is stale" perf -P 2 -n 1M
check "more connections than ports: refused, not mixed up" says 'Cannot assign requested address|no port|address' \
    "$ZEST" perf -c $LAB_PEER_IP -I z0 --ip host --ports 5000-5001 -P 3 -n 1M -i 0
check "a neighbour that is not there" says 'no such neighbour answers|nothing moved' "$ZEST" perf -c 10.77.0.99 "${BESIDE[@]}" -n 1M -i 0
check "the server ends" lab_stop $SERVER

# What is said.
socat -u TCP-LISTEN:5005,bind=$HOST STDOUT &
busy=$!
lab_await listens 5005
check "a port that the kernel uses" says 'port 5005 of .* is in use by this host' "$ZEST" echo "${BESIDE[@]}"
kill $busy
wait $busy 2>/dev/null
check "a port that is not among them" says 'is none of --ports' "$ZEST" echo -I z0 --ip host --ports 5000-5010
check "no ports" says 'which of its ports' "$ZEST" echo -I z0 --ip host
check "ports of an address that is not the host's" says 'is no address of z0' "$ZEST" echo -I z0 --ip 10.77.0.50/24 --ports 7
check "the host's address without ports" says 'or some ports of this one' "$ZEST" echo -I z0 --ip $HOST/24
check "no list" says 'is no list of ports' "$ZEST" echo -I z0 --ip host --ports 7-5
check "twice the same" says 'given twice' "$ZEST" echo -I z0 --ip host --ports 7,5-9
check "nothing is left attached" bash -c "! ip link show z0 | grep -q xdp"
finish
