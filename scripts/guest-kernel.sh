#!/bin/sh
# Unpacks a kernel of Debian's into .cache/guest, which tests/support/guest.py boots. It is not for this machine.
set -eu
cd "$(dirname "$0")/.."
mkdir -p .cache/guest
cd .cache/guest
ls boot/vmlinuz-* >/dev/null 2>&1 && exit 0
kernel=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | sed -n 's/.*Depends: //p' | head -n 1)
if [ -n "$kernel" ] && apt-get -q download "$kernel" >../guest.log 2>&1; then
    dpkg-deb -x "$kernel"_*.deb . && rm -f "$kernel"_*.deb
else
    echo "setup: a kernel for the guest cannot be had, it stays missing; see .cache/guest.log" >&2
fi
