#!/bin/bash
# The demo as a newcomer meets it: it ends with "demo: ok"; two at a time work; and whatever is
# killed, it says so, and no process, interface or namespace of it is left.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs tap

# What lab.sh told us is not for the demo: it is to make a lab of its own, inside of ours.
export DEMO_BYTES=16M DEMO_SECONDS=1 DEMO_MTUS=1500
demo() { env -u LAB_INSIDE timeout 900 scripts/demo; }
says() { # says LAST-LINE STATUS: what `demo` in the background (its log is $log) ended with
    wait "$pid"
    local status=$?
    tail -n 5 "$log"
    [ "$(tail -n 1 "$log" | tr -d '\r')" = "$1" ] && [ $status = "$2" ]
}
state() { # what a demo could leave here
    ip -o link | awk '{ print $2 }'
    ls /run/netns /sys/fs/bpf 2>/dev/null
    ps -eo args | grep -E '[z]est (echo|perf)|[s]cripts/demo|[s]ocat'
}
as_before() { [ "$(state)" = "$before" ]; }
left_nothing() { lab_await as_before || { state; return 1; }; }
in_background() { # starts a demo in a session of its own, and waits until the echo is at work
    log=$LAB_TMP/demo.$1
    env -u LAB_INSIDE --default-signal=INT DEMO_BYTES=4G setsid scripts/demo >"$log" 2>&1 &
    pid=$!
    lab_await at_work && return
    cat "$log"
    return 1
}
# The client is there, and has got something back.
at_work() { grep -q 'ready on port' "$log" && got "$(pgrep -s "$pid" -x socat)"; }
got() { [ "$(sed -n 's/^wchar: //p' "/proc/$1/io")" -gt 1000000 ]; }
before=$(state)

check "the demo ends with demo: ok" demo
check "it left nothing" left_nothing

two() {
    demo >"$LAB_TMP/one" 2>&1 &
    local one=$!
    demo >"$LAB_TMP/two" 2>&1 &
    wait $one && wait $! && [ "$(tail -n 1 "$LAB_TMP/one" "$LAB_TMP/two" | grep -c '^demo: ok$')" = 2 ] && return 0
    tail -n 5 "$LAB_TMP/one" "$LAB_TMP/two"
    return 1
}
check "two at a time work" two
check "they left nothing" left_nothing

if check "^C: it is at work" in_background int; then
    kill -INT -- "-$pid"
    check "^C: it says so" says "demo: failed: interrupted" 130
    check "^C: it left nothing" left_nothing
fi
if check "kill -9 of zest: it is at work" in_background zest; then
    pkill -KILL -s "$pid" -f 'zest echo'
    wait "$pid"
    check "kill -9 of zest: it says so" grep -q '^demo: failed: zest echo died' "$log"
    check "kill -9 of zest: it left nothing" left_nothing
fi
if check "kill -9 of the client: it is at work" in_background client; then
    pkill -KILL -s "$pid" -x socat
    wait "$pid"
    check "kill -9 of the client: it says so" grep -q '^demo: failed: ' "$log"
    check "kill -9 of the client: it left nothing" left_nothing
fi
if check "kill -9 of the demo itself: it is at work" in_background itself; then
    kill -KILL "$pid"
    check "kill -9 of the demo itself: it left nothing" left_nothing
fi
finish
