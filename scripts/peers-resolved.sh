#!/bin/sh
# Unpacks systemd-resolved into .cache/resolved. Not installed: its package makes it the resolver of the machine.
set -eu
cd "$(dirname "$0")/.."
mkdir -p .cache/resolved
[ ! -x .cache/resolved/lib/systemd/systemd-resolved ] || exit 0
cd .cache/resolved
if apt-get -q download systemd-resolved >../resolved.log 2>&1; then
    dpkg-deb -x systemd-resolved_*.deb . && rm -f systemd-resolved_*.deb
else
    echo "setup: systemd-resolved cannot be had, it stays missing; see .cache/resolved.log" >&2
fi
