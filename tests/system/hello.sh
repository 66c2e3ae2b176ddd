#!/bin/bash
# The example: it builds as a user's program would (the public headers, the one archive), it does what
# it says, and the README shows its very lines.
. "$(dirname "$0")/lib.sh"
export LAB_ONLY=tap
lab_enter "$@"
needs tap

part() { sed -n '/hello: begin/,/hello: end/{//d;p}' examples/hello.c; }
quoted() { # the README's first C block is that part of the example
    sed -n '/^```c$/,/^```$/{//d;p}' README.md | diff - <(part)
}
check "the README quotes it" quoted
check "it starts" lab_start hello "$BUILD/examples/hello" || finish
hello=$LAB_PID
greets() { [[ $(timeout 120 socat -t 100 - TCP:10.0.0.2:7777 </dev/null) =~ ^hello\ from\ 0x[0-9a-f]+$ ]]; }
check "it greets" greets
check "and again" greets
ends() { lab_stop $hello; }
check "it ends in order, all memory home" ends
finish
