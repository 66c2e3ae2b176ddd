#!/bin/bash
# The second example: one file in memory, to many at a time, from where it lies; a slow client holds
# up nobody, one that goes away leaves nothing behind. Over TAP, and over AF_XDP as root.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs tap
needs tun

FILE=$LAB_TMP/file
head -c 5000001 /dev/urandom >"$FILE"
fetch() { "${FROM[@]}" timeout 300 socat -u "TCP:$1:7777" - | cmp - "$FILE"; } # fetch ADDRESS
at_once() { # at_once N ADDRESS
    local i pids=() bad=0
    for ((i = 0; i < $1; i++)); do
        fetch "$2" &
        pids+=($!)
    done
    for i in "${pids[@]}"; do wait "$i" || bad=$((bad + 1)); done
    echo "$bad of $1 were not served"
    [ $bad = 0 ]
}
said() { cat "$LAB_TMP/serve.log" && grep -qE "$1" "$LAB_TMP/serve.log"; }
ends() { lab_stop "$SERVE_PID"; }

serves() { # serves ADDRESS: what holds on any link
    check "the file arrives" fetch "$1"
    check "twenty at once are served" at_once 20 "$1"
    "${FROM[@]}" bash -c "exec 3<>/dev/tcp/$1/7777; sleep 600" & # reads nothing
    local idle=$!
    check "beside one that does not read" fetch "$1"
    kill $idle
    wait $idle 2>/dev/null
    check "and after it has gone away" fetch "$1"
    check "it ends in order, all memory home" ends
}

FROM=()
check "it starts on TAP" lab_start serve "$BUILD/examples/serve" "$FILE" || finish
SERVE_PID=$LAB_PID
serves 10.0.0.2
check "nothing was copied to send it" said ' 0 bytes copied'
if [ "$LAB" = xdp ]; then
    lab_link 1500
    FROM=("${PEER[@]}")
    check "it starts on AF_XDP" lab_start serve "$BUILD/examples/serve" "$FILE" z0 $LAB_ZEST_IP/24 || finish
    SERVE_PID=$LAB_PID
    serves $LAB_ZEST_IP
else
    skipped "over AF_XDP: needs root"
fi
says() { "$BUILD/examples/serve" "$@" 2>&1 | grep -q "$WHAT"; }
WHAT="No such file" check "a file that is not there: it says so" says /nonexistent
finish
