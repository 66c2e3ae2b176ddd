# lib.sh - what the system tests share. A test sources this, says what it needs, makes a link
# (scripts/lab.sh), and checks things; each check counts.
#
#   . "$(dirname "$0")/lib.sh"
#   lab_enter "$@"; needs xdp
#   lab_link 1500
#   check "it echoes" echo_random 1M
#   finish

cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
. scripts/lab.sh
BUILD=${BUILD:-$PWD/$(make -s where)}
export BUILD
ZEST=$BUILD/zest
TEST=$(basename "$0" .sh)
T_PASSED=0 T_FAILED=0 T_SKIPPED=0
# Sanitizers: a leak check needs ptrace, which a namespace's first process can't have.
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"

[ -x "$ZEST" ] || {
    echo "$ZEST is not built"
    exit 77
}

has_tun() { [ -c /dev/net/tun ]; }
needs() { # needs xdp | needs tap | needs tun: ends the test as skipped if the lab is less, or has no TAP
    [ "$1" != tun ] || has_tun || {
        echo "needs /dev/net/tun"
        exit 77
    }
    case "$1/$LAB" in
    tun/*) return ;;
    xdp/xdp | tap/xdp | tap/tap) return ;;
    xdp/*) echo "needs root: AF_XDP and network namespaces" ;;
    tap/*) echo "needs root, or user namespaces (unshare -Urn) and /dev/net/tun" ;;
    esac
    exit 77
}

# check DESCRIPTION COMMAND...: one test. Output is kept back, and shown if it fails; its status says
# which, for what can't go on without it: check "it starts" start_echo || finish
check() {
    local what=$1
    shift
    if "$@" >"$LAB_TMP/check.log" 2>&1; then
        T_PASSED=$((T_PASSED + 1))
        echo "ok: $what"
        return 0
    else
        T_FAILED=$((T_FAILED + 1))
        echo "FAILED: $what"
        sed 's/^/    /' "$LAB_TMP/check.log" | tail -n 30
        return 1
    fi
}
skipped() { # one check that can't be made, and why
    T_SKIPPED=$((T_SKIPPED + 1))
    echo "skipped: $1"
}
finish() {
    if [ $T_SKIPPED -gt 0 ]; then
        echo "$TEST: $T_PASSED passed, $T_FAILED failed, $T_SKIPPED skipped"
    else
        echo "$TEST: $T_PASSED passed, $T_FAILED failed"
    fi
    [ $T_FAILED = 0 ]
    exit
}

# What tshark must not find in a capture (it needs -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE).
# Linux sends 0xffff where a sum is 0 (one ACK in 65,536): as good for whoever adds it up, and bad
# only for tshark, which compares it with what it would have written itself (RFC 1624).
MISFORMED='_ws.malformed || ip.checksum.status == 0 || icmp.checksum.status == 0 || (tcp.checksum.status == 0 && !(tcp.checksum == 0xffff && tcp.checksum_calculated == 0))'

bytes_of() { # 64M -> 67108864
    numfmt --from=iec "$1"
}

# start_echo OPTION...: zest echo on the lab's link
start_echo() {
    lab_start echo "$ZEST" echo "${LAB_LINK[@]}" "$@" && ECHO_PID=$LAB_PID
}
# It ends by itself with 0, which it does only if all memory came home.
stop_echo() {
    local status
    lab_stop "$ECHO_PID"
    status=$?
    cat "$LAB_TMP/echo.log"
    [ $status = 0 ]
}
# It ends by itself with 1, as a server without a link should: and its memory comes home all the same.
echo_gives_up() {
    lab_await lab_dead "$ECHO_PID"
    wait "$ECHO_PID"
    local status=$?
    cat "$LAB_TMP/echo.log"
    [ $status = 1 ] && ! grep -qE 'not given back|bug:' "$LAB_TMP/echo.log"
}
echo_said() { # echo_said PATTERN: in its closing line
    tail -n 3 "$LAB_TMP/echo.log"
    grep -qE "$1" "$LAB_TMP/echo.log"
}
alive() { kill -0 "$1"; }
soon_said() { # soon_said PATTERN: the echo's log has it, or will
    lab_await grep -qE "$1" "$LAB_TMP/echo.log" && return
    cat "$LAB_TMP/echo.log"
    return 1
}
listens() { [ -n "$(ss -Hltn "sport = :$1")" ]; } # listens PORT: a socket of the kernel's, in this namespace
established() { # established N PORT: connections of the peer's to that port
    [ "$(peer ss -Htn state established "dport = :$2" | wc -l)" -ge "$1" ]
}
has_carried() { [ "$(lab_carried "$1")" -ge "$2" ]; } # has_carried IF BYTES: of all time
more_moved() { # more_moved IF BYTES: waits until it has carried so many more
    lab_await has_carried "$1" $(($(lab_carried "$1") + $2))
}

# start_frames NAME WORD...: netif_frames in the background; its link is open on return. Its PID is
# FRAMES_PID, its output in $LAB_TMP/NAME.log.
start_frames() {
    local name=$1
    shift
    : >"$LAB_TMP/$name.log"
    "$BUILD/system/netif_frames" "$@" >"$LAB_TMP/$name.log" 2>&1 &
    FRAMES_PID=$!
    lab_await open_or_dead "$FRAMES_PID" "$LAB_TMP/$name.log"
    grep -q mtu= "$LAB_TMP/$name.log"
}
open_or_dead() { grep -q mtu= "$2" || lab_dead "$1"; }
# says PATTERN COMMAND...: the command fails, and says so
says() {
    local pattern=$1 status
    shift
    timeout 120 "$@" >"$LAB_TMP/said" 2>&1
    status=$?
    cat "$LAB_TMP/said"
    [ $status != 0 ] && grep -qE -- "$pattern" "$LAB_TMP/said"
}

# echo_random SIZE [SECONDS]: so many random bytes through the echo, from an ordinary client; what
# comes back has the same SHA-256.
echo_random() {
    local size limit=${2:-300} in=$LAB_TMP/in.$BASHPID out=$LAB_TMP/out.$BASHPID
    size=$(bytes_of "$1")
    mkfifo "$in.fifo"
    sha256sum <"$in.fifo" >"$in" &
    local summer=$!
    head -c "$size" /dev/urandom | tee "$in.fifo" |
        { peer timeout "$limit" socat -b 65536 -t "$limit" - TCP:$LAB_ZEST_IP:7 && echo fine >"$out.client"; } |
        sha256sum >"$out"
    wait $summer
    rm "$in.fifo"
    local sent got
    read -r sent _ <"$in"
    read -r got _ <"$out"
    echo "sent $sent, got $got ($size bytes)"
    [ -e "$out.client" ] && [ "$sent" = "$got" ]
}

# json NAME: the value of a member of the (flat) object on standard input
json() {
    sed -nE "s/.*\"$1\":\"?([^,\"}]*)\"?[,}].*/\1/p"
}
