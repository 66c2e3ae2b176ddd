#!/bin/bash
# What is installed is enough: outside the source tree, the example builds against it as pkg-config
# says, in C and with every header in C++, and runs; and uninstalling leaves nothing.
. "$(dirname "$0")/lib.sh"
export LAB_ONLY=tap
lab_enter "$@"
command -v pkg-config >/dev/null || {
    echo "needs pkg-config"
    exit 77
}
case $BUILD in
*/gcc) ;;
*)
    echo "of the ordinary build only"
    exit 77
    ;;
esac

ROOT=$LAB_TMP/root
export PKG_CONFIG_PATH=$ROOT/lib/pkgconfig
flags() { pkg-config --cflags --libs zest; }
install_it() { ZEST_SETUP=no make install PREFIX="$ROOT"; }
outside() ( cd "$LAB_TMP" && "$@" )
man_page() { man -l --warnings "$1" 2>&1 >/dev/null | grep . && return 1 || return 0; }
version() { [ "$("$ROOT/bin/zest" --version)" = "zest $(pkg-config --modversion zest)" ]; }

check "make install" install_it || finish
check "program and pkg-config agree on the version" version
cp examples/hello.c "$LAB_TMP/app.c"
# shellcheck disable=SC2046  # words they are
check "the example builds against it" outside gcc -Wall -Wextra app.c $(flags) -o app
if command -v g++ >/dev/null; then
    for h in zbuf/zbuf.h stack/zest.h stack/zest_record.h netif/netif.h netif/probe.h sockets/sockets.h; do echo "#include <$h>"; done >"$LAB_TMP/app.cc"
    echo 'int main() { return zbuf_pool_destroy(zbuf_pool_create(nullptr)) | (sockets_errno(0) != 0); }' >>"$LAB_TMP/app.cc"
    # shellcheck disable=SC2046
    check "a C++ program with every header, too" outside g++ -Wall -Wextra app.cc $(flags) -o appcc
    check "and runs" "$LAB_TMP/appcc"
else
    skipped "C++: no g++"
fi
if [ "$LAB" != none ]; then
    check "it starts" lab_start app "$LAB_TMP/app" || finish
    greets() { [[ $(timeout 10 socat -t 5 - TCP:10.0.0.2:7777 </dev/null) =~ ^hello\ from\ 0x[0-9a-f]+$ ]]; }
    check "it greets" greets
    check "it ends in order" lab_stop "$LAB_PID"
fi
command -v man >/dev/null && for m in "$ROOT"/share/man/man*/*; do check "$(basename "$m") is formatted without a warning" man_page "$m"; done
uninstall() { make -s uninstall PREFIX="$ROOT" && [ -z "$(find "$ROOT" -type f)" ]; }
check "make uninstall leaves no file" uninstall
finish
