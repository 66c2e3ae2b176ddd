#!/bin/bash
# zest stat --mem: processes with a pool, seen from outside: in order, exhausted, stopped, killed
# while being watched, private, somebody else's.
. "$(dirname "$0")/lib.sh"
LAB_TMP=$(mktemp -d)
HOLD=$BUILD/system/poolhold
pids=()
tidy() { # what is left of those that we started
    [ ${#pids[@]} -gt 0 ] && kill -9 "${pids[@]}" 2>/dev/null
    rm -rf "$LAB_TMP"
}
trap tidy EXIT

hold() { # hold WORD...: starts one; its pid in $PID
    local out=$LAB_TMP/out.${#pids[@]}
    # A pipe that we hold open is its standard input.
    mkfifo "$LAB_TMP/in.${#pids[@]}"
    "$HOLD" "$@" <"$LAB_TMP/in.${#pids[@]}" >"$out" &
    PID=$!
    exec {fd}>"$LAB_TMP/in.${#pids[@]}"
    pids+=("$PID")
    lab_await grep -q ready "$out" && return
    echo "poolhold $* did not get ready"
    return 1
}
says() { # says STATUS PATTERN ARGUMENT...: zest stat ends so, and says that
    local want=$1 pattern=$2 out status
    shift 2
    out=$(timeout 120 "$ZEST" stat "$@" 2>&1)
    status=$?
    echo "status $status"
    echo "$out"
    [ $status = "$want" ] && grep -qE -e "$pattern" <<<"$out"
}
json() { # json EXPRESSION ARGUMENT...: what python makes of the object o
    local expr=$1
    shift
    timeout 120 "$ZEST" stat --json "$@" | python3 -c "import json,sys
for line in sys.stdin: o = json.loads(line)
b = {x['name']: x for x in o['budgets']}
c = {x['size']: x for x in o['classes']}
print(o)
sys.exit(0 if ($expr) else 1)"
}

check "no such process: says so" says 1 'no such process' --mem 4194000
check "a process without a pool: says so" says 1 'has no pool' $$
check "a program that is not there" says 1 'No such file' --mem /nonexistent
check "two targets: a mistake" says 2 'one process at a time' 1 2
check "a bad interval: a mistake" says 2 'interval' -i x 1
check "--count alone: a mistake" says 2 'interval' -c 2 1
check "--help" says 0 'zest stat \[--mem\]' --help
if [ "$(id -u)" = 0 ]; then
    check "the program does not run: says so" says 1 'no process of this program' --mem "$HOLD"
fi

hold || finish
first=$PID
check "a pool, by pid" says 0 'poolhold, process [0-9]+, pool a "pool": 20 KiB of 8 MiB held in 10 segments' --mem "$first"
check "its class" says 0 '^ +2K +10 +1014 +[0-9]+ +10 +0 +0 +1 ' "$first"
check "its budget" says 0 '^listener +20 KiB +1004 KiB +128 KiB +1 MiB +20 KiB +0 +0 ' "$first"
check "by program" says 0 "process $first" --mem "$HOLD"
if command -v python3 >/dev/null; then
    check "for programs" json "o['pid'] == $first and o['held'] == 20480 and b['listener']['left'] == 1004 * 1024
 and o['name'] == 'a \"pool\"' and c[2048]['held'] == 10 and b['listener']['min'] == 131072 and b['app']['held'] == 0" "$first"
else
    skipped "--json: no python3 here"
fi
check "who holds it (if we may trace it)" says 0 'connection with 10\.1\.2\.3:4567|right to trace' -w 100 "$first"
check "how old (if we may trace it)" says 0 '^listener.* [0-9]+\.[0-9]+ s$|right to trace' "$first"
twice() {
    local out
    out=$(timeout 120 "$ZEST" stat -i 0.1 -c 3 --json "$first" | wc -l)
    echo "$out lines"
    [ "$out" = 3 ]
}
check "again and again" twice

hold exhaust || finish
exhausted=$PID
check "a pool that is used up" says 0 '(8\.0|8) MiB held|7\.[0-9] MiB of 8 MiB held' "$exhausted"
check "its refusals" says 0 '^app +[0-9.]+ MiB .* [1-9][0-9]* ' "$exhausted"
kill -STOP "$exhausted"
check "a process that is stopped" says 0 'listener +20 KiB' "$exhausted"
kill -CONT "$exhausted"
check "all of them" says 0 "process $exhausted"
both() { [ "$(timeout 120 "$ZEST" stat --json "$HOLD" | wc -l)" = 2 ]; }
check "two of one program" both

hold debug || finish
if says 0 'right to trace' "$PID" >/dev/null; then
    skipped "debug mode: we may not trace it"
else
    check "debug mode: the call that allocated" says 0 'allocated by poolhold\+0x[0-9a-f]+' "$PID"
fi
hold private || finish
check "a private pool: says so" says 1 'keeps it private' "$PID"

# Killed while it is being watched: the watch ends by itself, with what it saw.
timeout 120 "$ZEST" stat -i 0.05 "$first" >"$LAB_TMP/watch" 2>&1 &
watcher=$!
lab_await test -s "$LAB_TMP/watch"
kill -9 "$first"
ended() {
    wait "$watcher"
    local status=$?
    tail -n 3 "$LAB_TMP/watch"
    [ $status = 0 ] && grep -qE 'it has ended|no such process|has no pool' "$LAB_TMP/watch"
}
check "killed meanwhile: the watch ends" ended
check "and it is gone" says 1 'no such process|has no pool' "$first"

if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
    others() {
        local out
        chmod 755 "$LAB_TMP"
        out=$(setpriv --reuid=65534 --regid=65534 --clear-groups timeout 120 "$ZEST" stat "$exhausted" 2>&1)
        local status=$?
        echo "status $status: $out"
        [ $status = 1 ] && grep -q 'belongs to somebody else' <<<"$out"
    }
    if setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$ZEST"; then
        check "somebody else's: says so" others
    else
        skipped "somebody else's: the program can't be reached by them"
    fi
else
    skipped "somebody else's: needs root and setpriv"
fi
finish
