#!/bin/sh
# Installs the peers that come from PyPI into .venv. Where that fails they stay missing: never an error.
set -eu
cd "$(dirname "$0")/.."
wanted="picows==2.3.1 sandlock==0.9.0"

[ "$wanted" != "$(cat .cache/pypi-peers.stamp 2>/dev/null)" ] || exit 0
# shellcheck disable=SC2086
if timeout 120 .venv/bin/python -m pip install -q --disable-pip-version-check $wanted >.cache/pypi-peers.log 2>&1; then
    echo "$wanted" >.cache/pypi-peers.stamp
else
    echo "setup: pip failed, its peers stay missing; see .cache/pypi-peers.log" >&2
fi
