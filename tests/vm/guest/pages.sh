# pages.sh - pools of every kind of page on a machine with two NUMA nodes, by busybox's shell: what zest says
# of each, beside what the kernel says of the process's memory.
#
# Node 1 has one free page of 1 GiB and 32 of 2 MiB, node 0 has none. Descriptor 3 as in tests.sh.
cd /tmp || exit 1
say() { echo "$*" >&3; }
check() { # check WHAT COMMAND...
    local what=$1
    shift
    if "$@" >check.log 2>&1; then
        say "ok $what"
    else
        say "bad $what"
        tail -n 20 check.log | tr -d '\r' | sed 's/^/log     | /' >&3
    fi
}
nodes=/sys/devices/system/node
huge() { echo "$nodes/node$1/hugepages/hugepages-$2kB"; } # huge NODE KB

open_pool() { # open_pool OPTION...: a pool, kept open. SAID is what zest says of it, PID whose it is
    mkfifo in
    timeout 60 /zest/pages "$@" <in >out 2>&1 &
    exec 4>in
    rm in
    for _ in $(seq 600); do
        [ -s out ] && break
        sleep 0.1
    done
    SAID=$(cat out)
    BASE=${SAID##* at }
    HEADERS=${SAID##* from }
    # timeout is the parent of the one that we look at.
    PID=$(grep -l "^$BASE-\|^$BASE " /proc/[0-9]*/maps 2>/dev/null | grep -v self | sed 's|/proc/||; s|/maps||' | head -n 1)
    echo "zest: $SAID"
    [ -n "$PID" ] || return 1
    MAP=$(grep "^$BASE " /proc/$PID/numa_maps)
    HEADERS_MAP=$(grep "^${HEADERS%% *} " /proc/$PID/numa_maps)
    KB=$(awk -v base="$BASE" '$1 ~ "^" base "-" { on = 1 } on && /^'"${WHAT:-KernelPageSize}"':/ { print $2; exit }' /proc/$PID/smaps)
    echo "kernel: $MAP; ${WHAT:-KernelPageSize} $KB kB"
    echo "headers: $HEADERS_MAP"
}
closed() {
    exec 4>&-
    wait
}
only_on() { # only_on NODE OTHER: the region, and the headers
    local map
    for map in "$MAP" "$HEADERS_MAP"; do
        case $map in *" N$2="*) return 1 ;; *" N$1="*) ;; *) return 1 ;; esac
    done
}
says() { # says START-OF-WHAT-ZEST-SAYS
    case $SAID in "$1"*) return 0 ;; esac
    return 1
}
it_is() { # it_is WHAT-ZEST-SAYS SMAPS-FIELD KB OPTION...: so it is, by the kernel's word, and on node 1
    local what=$1 field=$2 kb=$3 status=0
    shift 3
    WHAT=$field
    open_pool "$@" && says "$what: " && [ "$KB" = "$kb" ] && only_on 1 0 || status=1
    closed
    return $status
}
taken() { # taken BY COMMAND...: that many huge pages of 1 GiB are in use while it runs
    local free
    open_pool node=1 1g
    free=$(cat $(huge 1 1048576)/free_hugepages)
    closed
    echo "1 GiB pages free: $free while open, $(cat $(huge 1 1048576)/free_hugepages) after"
    [ "$free" = 0 ] && [ "$(cat $(huge 1 1048576)/free_hugepages)" = 1 ]
}
refused() { # refused PATTERN COMMAND...: it fails, and says that
    local pattern=$1
    shift
    if timeout 60 "$@" >out 2>&1 </dev/null; then
        cat out
        return 1
    fi
    cat out
    grep -q -- "$pattern" out
}
says_too() { # says_too PATTERN COMMAND...: it works, and says that
    local pattern=$1
    shift
    timeout 120 "$@" >out 2>&1 </dev/null
    local status=$?
    cat out
    [ $status = 0 ] && grep -q -- "$pattern" out
}
two_nodes() {
    cat $nodes/online $(huge 1 1048576)/free_hugepages $(huge 1 2048)/free_hugepages
    [ "$(cat $nodes/online)" = 0-1 ] && [ "$(cat $(huge 1 1048576)/free_hugepages)" = 1 ] &&
        [ "$(cat $(huge 0 2048)/free_hugepages)" = 0 ]
}

echo 32 >$(huge 1 2048)/nr_hugepages
echo 0 >$(huge 0 2048)/nr_hugepages
[ -e /sys/kernel/mm/transparent_hugepage/enabled ] && echo madvise >/sys/kernel/mm/transparent_hugepage/enabled

check "two NUMA nodes, huge pages on the second" two_nodes
check "1 GiB pages on node 1: one, as zest says" it_is "huge 1G" KernelPageSize 1048576 1g node=1
check "the 1 GiB page comes from the reserve, and goes back" taken
check "2 MiB pages on node 1, as zest says" it_is "huge 2M" KernelPageSize 2048 node=1
check "more than are set aside: transparent huge pages on node 1, all of it" it_is "transparent huge" AnonHugePages 98304 node=1 mib=96
check "ordinary pages on node 1, as zest says" it_is "ordinary" KernelPageSize 4 nohuge node=1
not_on_node_0() { # the reserve is on node 1: it may not be taken from there, nor kill whoever asked
    local status=0
    WHAT=AnonHugePages
    open_pool node=0 && says "transparent huge: " && [ "$KB" = 32768 ] && only_on 0 1 || status=1
    closed
    return $status
}
check "2 MiB pages are free on node 1 only: node 0 gets transparent ones of its own" not_on_node_0
check "a node that does not exist: refused" refused "refused: Invalid argument" /zest/pages node=5
check "a node beyond what Linux can have: refused" refused "refused: Invalid argument" /zest/pages node=4000000000
ZEST="/zest/zest perf --mem -n 1M"
check "zest --node 5: says which there are" refused "no NUMA node 5 here; there are 0-1" $ZEST --node 5
check "zest --node 1: says so" says_too "on NUMA node 1" $ZEST --node 1
check "zest --huge-1g --node 0: there is none, says what to type" says_too "hugepagesz=1G" $ZEST --huge-1g --node 0 --pool 8M
