#!/bin/sh
# sampan-oci. Python runs from a read-only mount of itself, so that no container can write to it
# (CVE-2019-5736). Who made the mount left a note here of what is where; -ef says that it is still
# mounted, in this mount namespace, and still the same file as the interpreter. See protection.py.
case $0 in
/*) self=$0 ;;
*/*) self=$PWD/$0 ;;
*) self=$(command -v -- "$0") ;;
esac
note=${SAMPAN_STATE:-/run/sampan}/exe/notes$self
if [ -r "$note" ]; then
    { read -r exe && read -r python && read -r main; } <"$note"
    if [ "$exe" -ef "$python" ] && [ -r "$main" ]; then
        exec "$exe" -I -S "$main" "$@"
    fi
fi
real=$(readlink -f -- "$self")
SAMPAN_LAUNCHER=$self exec "${real%/*}/python3" -I -m sampan.oci "$@"
