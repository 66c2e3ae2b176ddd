# tests.sh - what is tested and measured inside the virtual machine, by busybox's shell.
#
# eth0 and eth1 are virtio-net cards on one hub, made for zero-copy AF_XDP; eth2 is one on a hub of its own that was
# not; eth3 and eth4 are for queues.sh. eth1 is moved to a namespace, `peer`, so that the kernel can be at both ends. What the host is to read goes
# to descriptor 3, a line each:
#
#   ok WHAT   bad WHAT   skip WHAT   log TEXT   json {...}     and `end` (from init), without which something broke off
#
# From the settings: VM_BYTES (the long transfer), VM_ECHO_BYTES, VM_BENCH_S and VM_TURNS (figures; 0 = none); SIM_SEEDS and
# SIM_HASH (the simulator's, on the host).
ZEST=/zest/zest
PEER_IP=10.9.0.1 ZEST_IP=10.9.0.2 KERNEL_IP=10.9.0.3
# Nothing here judges time: these only keep a hang from being for ever.
LONG_S=240 SHORT_S=60
cd /tmp || exit 1

say() { echo "$*" >&3; }
check() { # check WHAT COMMAND...: one test; what it printed is shown if it fails
    local what=$1 began
    began=$(cut -d. -f1 /proc/uptime)
    shift
    if "$@" >check.log 2>&1; then
        say "ok $what ($(($(cut -d. -f1 /proc/uptime) - began)) s)"
    else
        say "bad $what"
        tail -n 20 check.log | tr -d '\r' | sed 's/^/log     | /' >&3
        return 1
    fi
}
json() { sed -nE "s/.*\"$1\":\"?([^,\"}]*)\"?[,}].*/\1/p"; }

# ---- the same on another machine, with a processor that knows less

same_as_the_host() {
    SEED=1 SEEDS=$SIM_SEEDS timeout $LONG_S /zest/sim_test >out 2>&1
    cat out
    [ -n "$SIM_HASH" ] && grep -q "^sim: hash $SIM_HASH\$" out
}
check "the simulator's seeds 1 to $SIM_SEEDS have the output hash that they have on the host" same_as_the_host
check "a recorded run and its replay have the one that they have everywhere" \
    timeout $LONG_S /zest/record_test one_hash_everywhere

# ---- the network

unshare -n sleep 100000 &
NS=$!
PEER="nsenter -t $NS -n" # not a function: what runs in the background is then the program itself
until [ "$(readlink /proc/$NS/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
ip link set eth1 netns $NS
$PEER ip link set lo up
$PEER ip link set eth1 up
ip link set eth0 up

kernel_peer() { $PEER ip addr replace $PEER_IP/24 dev eth1; }
no_kernel_peer() { $PEER ip addr flush dev eth1; }

# ---- programs in the background: started when they say that they are ready

start() { # start NAME COMMAND...: sets PID
    local name=$1 i=0
    shift
    "$@" >"$name.log" 2>&1 &
    PID=$!
    while ! grep -q ready "$name.log"; do
        kill -0 $PID 2>/dev/null && [ $i -lt $((SHORT_S * 5)) ] || {
            cat "$name.log"
            kill -9 $PID 2>/dev/null
            return 1
        }
        i=$((i + 1))
        sleep 0.2
    done
}
ends() { # ends PID: with its status, if it does so in time
    local i=0
    while kill -0 "$1" 2>/dev/null && [ $i -lt $((SHORT_S * 5)) ]; do
        i=$((i + 1))
        sleep 0.2
    done
    kill -9 "$1" 2>/dev/null
    wait "$1"
}
# In order: it ends with 0 only if all memory came home.
stop() { # stop NAME PID
    local status
    kill -INT "$2"
    ends "$2"
    status=$?
    cat "$1.log"
    [ $status = 0 ]
}
PERF="$ZEST perf -I eth0 --ip $ZEST_IP/24 -i 0" # words of its own

# ---- the echo

start_echo() { start echo "$ZEST" echo -I eth0 --ip $ZEST_IP/24 "$@" && ECHO=$PID; }
echo_says() { cat echo.log && grep -q "$1" echo.log; }
echo_random() { # echo_random BYTES: random bytes there and back, from an ordinary client
    mkfifo fifo
    sha256sum <fifo >sent &
    local summer=$! sent got
    head -c "$1" /dev/urandom | tee fifo |
        { $PEER timeout $LONG_S socat -b 65536 -t $SHORT_S - TCP:$ZEST_IP:7 && echo fine >client; } | sha256sum >got
    wait $summer
    rm fifo
    read -r sent _ <sent
    read -r got _ <got
    echo "sent $sent, got $got"
    [ -e client ] && [ "$sent" = "$got" ]
}
pings() { $PEER ping -c 3 -W 20 $ZEST_IP; }

kernel_peer
check "zero-copy is what it takes by itself" start_echo
check "and the socket's own options say so" echo_says 'AF_XDP zero-copy'
check "ping" pings
check "$VM_ECHO_BYTES random bytes echoed: same SHA-256" echo_random "$VM_ECHO_BYTES"
sleep 2
check "ping after it has slept" pings
restart_after_kill() {
    kill -9 "$ECHO"
    start_echo --mode zero-copy && pings
}
check "killed with -9 while it runs, it starts again at once" restart_after_kill
kill_under_load() {
    $PEER socat -b 65536 OPEN:/dev/zero TCP:$ZEST_IP:7 2>/dev/null &
    local load=$! status
    sleep 2
    kill -9 "$ECHO"
    start_echo --mode zero-copy && pings
    status=$?
    kill -9 $load
    return $status
}
check "killed with -9 under load, it starts again at once" kill_under_load
check "it ends in order, all memory home" stop echo "$ECHO"

# ---- faults in the middle of a transfer: the driver's rings are made anew, the link flaps (a socket that stalls: queues.sh)

# goes_on_after COMMAND SENTENCE INTERFACE IP OPTION...: that is carried out meanwhile, every byte comes back, and zest
# says so (stall.c is there, and does what it does when a file is)
goes_on_after() {
    local command=$1 sentence=$2 if=$3 ip=$4 client status
    shift 4
    export STALL=/tmp/stall
    LD_PRELOAD=/zest/stall.so start echo "$ZEST" echo -I $if --ip $ip/24 --mode zero-copy "$@" || return 1
    head -c 6000000 /dev/urandom >blob
    (head -c 1000000 blob; touch begun; sleep 0.2; tail -c 5000000 blob) |
        $PEER timeout $LONG_S socat -b 16384 -t $LONG_S - TCP:$ip:7 >back &
    client=$!
    until [ -e begun ]; do sleep 0.05; done
    eval "$command"
    wait $client
    status=$?
    rm -f begun $STALL
    cmp blob back || status=1
    stop echo "$PID" || status=1
    grep "zest: $if" echo.log | sed 's/^/log /' >&3
    rm -f blob back
    [ $status = 0 ] && grep -q "$sentence" echo.log && grep -q ', 0 ended in an error' echo.log
}
check "zero-copy: the driver resets its rings, and every byte comes back" \
    goes_on_after 'ethtool -G eth0 rx 256 && sleep 0.3 && ethtool -G eth0 rx 1024 tx 128' ' 0 ended' eth0 $ZEST_IP
was_reset() { ethtool -g eth0 && [ "$(ethtool -g eth0 | sed -n 's/^TX:[^0-9]*//p' | tail -n 1)" = 128 ]; }
check "it did" was_reset
ethtool -G eth0 tx 256
check "zero-copy: the link flaps" \
    goes_on_after 'for i in 1 2 3; do ip link set eth0 down; sleep 0.3; ip link set eth0 up; sleep 0.3; done' 'eth0 is up again' eth0 $ZEST_IP

# ---- libxdp's dispatcher: other programs beside ours, and what is left or taken off

gives_up() { # as a server should whose program is gone: it says so, ends with 1, and all memory comes home
    local status
    ends "$ECHO"
    status=$?
    cat echo.log
    [ $status = 1 ] && grep -q "took zest's XDP program off" echo.log && ! grep -q 'not given back' echo.log
}
pins() { ls /sys/fs/bpf/xdp 2>/dev/null | grep -c dispatch; }
no_pins() { [ "$(pins)" = 0 ]; }
dispatcher() {
    export LIBXDP_OBJECT_PATH=/zest
    check "by the dispatcher, in zero-copy mode" start_echo --attach dispatcher --mode zero-copy || return
    check "another program joins it" /zest/foreign attach eth0 /zest/xdp_kern.bpf.o
    check "zest goes on" echo_random 65536
    check "zest ends in order" stop echo "$ECHO"
    check "and leaves the other one there, alone" /zest/foreign only eth0
    check "zest joins it" start_echo --attach dispatcher --mode zero-copy
    check "the dispatcher is unloaded, with all that is in it" /zest/foreign detach eth0
    check "zest says so, and ends" gives_up
    check "nothing is left" no_pins
    check "zest by the dispatcher again" start_echo --attach dispatcher --mode zero-copy
    check "that is taken off, and its pins stay" /zest/foreign rip eth0
    check "zest says so, and ends" gives_up
    check "nothing is left" no_pins
    start_echo --attach dispatcher --mode zero-copy
    kill -9 "$ECHO"
    check "killed with -9, its program stays" test "$(pins)" = 1
    check "the next start removes it, and works" start_echo --attach link --mode zero-copy
    check "nothing else is left" no_pins
    check "it echoes" echo_random 65536
    check "and ends in order" stop echo "$ECHO"
}
if [ ! -e /zest/xdp-dispatcher.o ]; then
    say "skip libxdp's dispatcher: the host has no xdp-dispatcher.o"
elif mount -t bpf bpf /sys/fs/bpf; then
    dispatcher
    umount /sys/fs/bpf
else
    say "bad the bpf file system"
fi

# ---- what a link cannot do is said

refused() { # refused PATTERN COMMAND...
    local pattern=$1
    shift
    timeout $SHORT_S "$@" >out 2>&1 </dev/null && return 1
    cat out
    grep -q "$pattern" out
}
check "gather is refused in zero-copy mode" refused 'one descriptor a frame only' \
    "$ZEST" perf -c $PEER_IP -I eth0 --ip $ZEST_IP/24 --mode zero-copy --gather always -n 1M
ip link set eth2 up
doctor() { # doctor INTERFACE PATTERN [OPTION...]: a finding, or what a start got
    local if=$1 pattern=$2
    shift 2
    timeout $SHORT_S "$ZEST" doctor "$if" --json "$@" 2>&1 | sed 's/{"level"/\n&/g' >out
    cat out
    grep -qE "$pattern" out
}
check "zest doctor: this card has zero-copy" doctor eth0 '"level":"ok","topic":"zero-copy"'
check "zest doctor: that is what a start would get" doctor eth0 '"expected":"AF_XDP, native, zero-copy, one descriptor'
check "zest doctor --try: and gets" doctor eth0 '"tried":{"works":true,"error":"","mode":"zero-copy",.*"gather":false' --try
check "zest doctor: that one has not, and what it was made without" doctor eth2 \
    '"level":"note","topic":"zero-copy".*without VIRTIO_F_ACCESS_PLATFORM and VIRTIO_F_RING_RESET.*iommu_platform=on,queue_reset=on'
check "zest doctor: what a start would get there" doctor eth2 '"expected":"AF_XDP, native, copy, up to'
check "a card without queue_reset and iommu_platform: no zero-copy, with a reason" refused 'no zero-copy: the driver has it, but not with this device' \
    "$ZEST" echo -I eth2 --ip 10.10.0.2/24 --mode zero-copy
plain_card() {
    start plain "$ZEST" echo -I eth2 --ip 10.10.0.2/24 || return 1
    stop plain $PID && grep -q 'AF_XDP copy (no zero-copy: the driver has it, but not with this device as it is)' plain.log
}
check "left alone it takes copy mode there, and says why" plain_card
ip link set eth2 down

# ---- a long transfer without a copy

# all_in_place BYTES OPTION...: written as chains of frames, nothing gathered, nothing copied, every byte checked
all_in_place() {
    local bytes=$1
    shift
    timeout $LONG_S "$ZEST" perf -c $PEER_IP -I eth0 --ip $ZEST_IP/24 --mode zero-copy --gather never -i 0 \
        --frames --no-copy --verify -n "$bytes" -J "$@" >result 2>error
    local status=$?
    cat result error
    say "log $(json mode <result): $(json link_mode <result), retransmitted $(json retransmits <result) and $(json peer_retransmits <result), copied $(json copied_bytes <result) and $(json peer_copied_bytes <result)"
    [ $status = 0 ] && [ "$(json link_mode <result)" = zero-copy ] && [ "$(json bad_bytes <result)" = 0 ] &&
        [ "$(json copied_bytes <result)" = 0 ] && [ "$(json peer_copied_bytes <result)" = 0 ] &&
        [ "$(($(json sent_bytes <result) + $(json received_bytes <result)))" = "$((bytes * TIMES))" ]
}
start_zest_peer() { start server $PEER "$ZEST" perf -s -I eth1 --ip $PEER_IP/24 --mode zero-copy && SERVER=$PID; }
start_kernel_peer() { start server $PEER "$ZEST" perf --kernel -s && SERVER=$PID; }
server_says() { cat server.log && grep -q "$1" server.log; }

no_kernel_peer
check "zest to zest: the other end" start_zest_peer
check "zero-copy at the other end too" server_says 'AF_XDP zero-copy'
TIMES=1 check "zest to zest, $VM_BYTES bytes as frames: none copied, all as they were" all_in_place "$VM_BYTES"
TIMES=1 check "the other way, $((VM_BYTES / 4)) bytes" all_in_place $((VM_BYTES / 4)) -R
TIMES=2 check "both ways, $((VM_BYTES / 8)) bytes each" all_in_place $((VM_BYTES / 8)) --bidir
check "the other end ends in order, all memory home" stop server "$SERVER"
kernel_peer
check "zest to Linux: the other end" start_kernel_peer
TIMES=1 check "zest to Linux, $((VM_BYTES / 4)) bytes as frames: none copied" all_in_place $((VM_BYTES / 4))
TIMES=1 check "Linux to zest, $((VM_BYTES / 4)) bytes" all_in_place $((VM_BYTES / 4)) -R
check "the other end ends in order" stop server "$SERVER"

# ---- several queues

if [ "$VM_QUEUES" = yes ]; then . /queues.sh; else say "skip two queues: $VM_QUEUES"; fi

# ---- figures: taken in turns, the median of each

[ "$VM_TURNS" -gt 0 ] || exit 0
run() { # run NAME COMMAND...: adds a rate in Mbit/s to the file NAME
    local name=$1
    shift
    timeout $SHORT_S "$@" -t "$VM_BENCH_S" -J >result 2>error || {
        echo "$name: $*"
        cat result error
        return 1
    }
    awk -v s="$(json sent_gbit_s <result)" -v r="$(json received_gbit_s <result)" 'BEGIN { print (s + r) * 1000 }' >>"$name"
}
linux() { # the kernel's TCP at this end, too
    ip addr add $KERNEL_IP/24 dev eth0
    run "$@"
    local status=$?
    ip addr flush dev eth0
    return $status
}
turn() {
    kernel_peer
    start_kernel_peer || return 1
    run send-zc $PERF -c $PEER_IP --mode zero-copy && run receive-zc $PERF -c $PEER_IP --mode zero-copy -R &&
        linux send-linux "$ZEST" perf --kernel -i 0 -c $PEER_IP && linux receive-linux "$ZEST" perf --kernel -i 0 -c $PEER_IP -R &&
        run send-copy $PERF -c $PEER_IP --mode copy && run receive-copy $PERF -c $PEER_IP --mode copy -R
    local status=$?
    stop server "$SERVER" >/dev/null || return 1
    [ $status = 0 ] || return 1
    no_kernel_peer
    start_zest_peer && run zest-zc $PERF -c $PEER_IP --mode zero-copy
    status=$?
    stop server "$SERVER" >/dev/null && [ $status = 0 ]
}
i=0
while [ $i -lt "$VM_TURNS" ]; do
    i=$((i + 1))
    # Cards on a hub that stall do so in QEMU, and for good: figures are then not to be had, and nothing else is wrong.
    if turn >check.log 2>&1; then
        say "ok figures, turn $i of $VM_TURNS"
    elif grep -q 'keeps what it is given' check.log; then
        say "skip figures, turn $i of $VM_TURNS: an emulated card stalled"
        break
    else
        say "bad figures, turn $i of $VM_TURNS"
        tail -n 20 check.log | tr -d '\r' | sed 's/^/log     | /' >&3
    fi
done
median() { [ -s "$1" ] && sort -n "$1" | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
figure() { # figure NAME OURS THEIRS PEER
    local v p
    v=$(median "$2") && p=$(median "$3") || return
    say "json $(awk -v n="$1" -v v="$v" -v p="$p" -v w="$4" -v t="$VM_TURNS" 'BEGIN {
        printf "{\"name\":\"%s\",\"unit\":\"Mbit/s\",\"value\":%.1f,\"mode\":\"zero-copy, virtio-net, emulated\",\"runs\":%d,", n, v, t
        printf "\"peer\":\"%s\",\"peer_value\":%.1f,\"ratio\":%.2f}", w, p, (p > 0 ? v / p : 0) }')"
}
figure vm_send_to_linux send-zc send-linux "Linux TCP to Linux TCP, same cards"
figure vm_receive_from_linux receive-zc receive-linux "Linux TCP to Linux TCP, same cards"
figure vm_zest_to_zest zest-zc send-linux "Linux TCP to Linux TCP, same cards"
figure vm_send_to_linux_by_mode send-zc send-copy "zest in copy mode"
figure vm_receive_from_linux_by_mode receive-zc receive-copy "zest in copy mode"
