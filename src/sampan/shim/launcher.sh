#!/bin/sh
# containerd-shim-sampan-v2. Without the scripts that installers write, which load `re` first.
case $0 in
/*) self=$0 ;;
*/*) self=$PWD/$0 ;;
*) self=$(command -v -- "$0") ;;
esac
real=$(readlink -f -- "$self")
exec "${real%/*}/python3" -I -m sampan.shim.main "$@"
