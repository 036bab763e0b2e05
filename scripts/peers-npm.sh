#!/bin/sh
# Installs the peers that come from npm into .cache/npm. Without npm, or where that fails, they stay missing: never an error.
set -eu
cd "$(dirname "$0")/.."
wanted="@anthropic-ai/sandbox-runtime@0.0.83 node@22.23.3"

[ "$wanted" != "$(cat .cache/npm/stamp 2>/dev/null)" ] || exit 0
command -v npm >/dev/null || { echo "setup: npm is not here, its peers stay missing" >&2; exit 0; }
mkdir -p .cache/npm
# shellcheck disable=SC2086
if timeout 120 npm install --prefix .cache/npm --no-audit --no-fund --loglevel=error $wanted >.cache/npm.log 2>&1; then
    echo "$wanted" >.cache/npm/stamp
else
    echo "setup: npm failed, its peers stay missing; see .cache/npm.log" >&2
fi
