# queues.sh - two queues of a virtio-net card, each with a thread, a stack and a zero-copy socket; read by tests.sh,
# whose functions it uses.
#
# eth3 and eth4 are two-queue cards on the two ends of a bridge of the host's: what a queue of eth3's gets, the device
# decides by the hash that the driver tells (`ethtool -x`). eth4 goes to the peer's namespace, so Linux is at the other
# end, and has no say in it.
QUEUES_IP=10.11.0.2 QUEUES_PEER=10.11.0.1

ip link set eth4 netns $NS
$PEER ip addr add $QUEUES_PEER/24 dev eth4
$PEER ip link set eth4 up
ip link set eth3 up
# QEMU 7.2 sends nothing from a card with RSS until it has been told its number of queues once more.
ethtool -L eth3 combined 1 && ethtool -L eth3 combined 2

has_two_queues_and_a_hash() {
    ethtool -x eth3
    ethtool -x eth3 | grep -q 'with 2 RX ring' && ethtool -x eth3 | grep -q 'toeplitz: on'
}
check "a card with two queues, whose driver tells its hash" has_two_queues_and_a_hash

# two_queues OPTION...: connections of zest's own to Linux, both ways, over both queues
two_queues() {
    timeout $LONG_S "$ZEST" perf -c $QUEUES_PEER -I eth3 --ip $QUEUES_IP/24 --queues 2 --mode zero-copy -i 0 \
        --bidir --verify -J "$@" >result 2>error
    local status=$?
    cat result error
    say "log $(json link_mode <result), queues sent $(json queue0_tx_bytes <result) and $(json queue1_tx_bytes <result), strays $(json strays <result), changes of port $(json port_changes <result)"
    [ $status = 0 ] && [ "$(json link_mode <result)" = zero-copy ] && [ "$(json bad_bytes <result)" = 0 ] &&
        [ "$(json error <result)" = "" ] && [ "$(json queue0_tx_bytes <result)" -gt 0 ] &&
        [ "$(json queue1_tx_bytes <result)" -gt 0 ] && [ "$(json handed <result)" = 0 ]
}
by_hash() { # no answer ever came in on the wrong queue
    two_queues -P 8 "$@" && [ "$(json ports_by <result)" = hash ] && [ "$(json strays <result)" = 0 ] && [ "$(json port_changes <result)" = 0 ]
}
by_learning() { # answers that did were all, and each had its connection try another port
    two_queues -P 32 "$@" --steer learn && [ "$(json ports_by <result)" = learning ] && [ "$(json port_changes <result)" -gt 0 ] &&
        [ "$(json strays <result)" = $(($(json port_changes <result) + $(json refused <result))) ]
}
of_queue() { sed -nE "s/.*queue $1: .*[^0-9]([0-9]+) $2.*/\1/p;s/.*queue $1: ([0-9]+) $2.*/\1/p" echo.log | head -n 1; }
# Clients of the peer's, on any queue: each is served where its SYN came in, and nothing of it comes in elsewhere.
echo_over_two() {
    local i=0 p pids= status=0
    start echo "$ZEST" echo -I eth3 --ip $QUEUES_IP/24 --queues 2 --mode zero-copy || return 1
    head -c 50000 /dev/urandom >blob
    while [ $i -lt 24 ]; do
        $PEER timeout $LONG_S socat -t $SHORT_S - TCP:$QUEUES_IP:7 <blob >back$i &
        pids="$pids $!"
        i=$((i + 1))
    done
    for p in $pids; do wait "$p" || status=1; done
    while [ $((i -= 1)) -ge 0 ]; do cmp blob back$i || status=1; done
    rm -f back* blob
    stop echo "$PID" || status=1
    say "log connections $(of_queue 0 connections) and $(of_queue 1 connections), on the wrong queue $(of_queue 0 'of them') and $(of_queue 1 'of them')"
    [ $status = 0 ] && [ $(($(of_queue 0 connections) + $(of_queue 1 connections))) = 24 ] &&
        [ "$(of_queue 0 connections)" -gt 0 ] && [ "$(of_queue 1 connections)" -gt 0 ] &&
        [ "$(of_queue 0 'of them')$(of_queue 1 'of them')" = 00 ]
}

check "the other end" start queues-server $PEER "$ZEST" perf --kernel -s && SERVER=$PID
check "two queues: ports chosen by the card's hash, no frame on the wrong one" by_hash -n 256K
check "two queues: ports found by trying" by_learning -n 256K
check "the other end ends in order" stop queues-server "$SERVER"
check "two queues: Linux clients, no frame on the wrong one" echo_over_two

check "one of two zero-copy sockets stalls: opened anew, and every byte comes back" \
    goes_on_after 'touch /tmp/stall' 'eth3: its socket was opened anew' eth3 $QUEUES_IP --queues 2
ip link set eth3 down
