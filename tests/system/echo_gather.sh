#!/bin/bash
# Gather: where it is asked for, the echo sends payload from the segments that it was received into,
# as several descriptors a frame, and tx_copied_bytes stays 0.
. "$(dirname "$0")/lib.sh"
lab_enter "$@"
needs xdp

lab_link 1500
check "zest echo starts with --gather always" start_echo --gather always || finish
check "${CHECK_BYTES:-64M} come back intact" echo_random "${CHECK_BYTES:-64M}"
check "it ends in order, all memory home" stop_echo
check "no byte was copied" echo_said ', 0 bytes copied$'
lab_unlink
finish
