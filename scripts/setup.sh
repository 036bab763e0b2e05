#!/bin/sh
# Makes .venv with the locked dependencies and sees that the Debian packages of requirements/ are there.
# usage: setup.sh [peers]        Run again, it costs a fraction of a second.
set -eu
cd "$(dirname "$0")/.."

packages() { sed -e "s/#.*//" -e "/^[[:space:]]*$/d" "$@"; }

debian() {
    missing=""
    for package in $(packages "$@"); do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$state" = installed ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ]; then as=""; elif sudo -n true 2>/dev/null; then as="sudo -n"; else
        echo "setup: Debian packages are missing and this user may not install them. Run:  sudo apt-get install$missing" >&2
        exit 1
    fi
    echo "setup: installing Debian packages:$missing" >&2
    $as env DEBIAN_FRONTEND=noninteractive sh -c "apt-get -q update && apt-get -qy install --no-install-recommends$missing" >.cache/apt.log 2>&1 ||
        { tail -n 20 .cache/apt.log >&2; echo "setup: apt-get failed, see .cache/apt.log" >&2; exit 1; }
}

mkdir -p .cache
want=$(cat requirements/* pyproject.toml scripts/setup.sh | sha256sum)
if [ "${1:-}" = peers ]; then
    [ "$want" = "$(cat .cache/peers.stamp 2>/dev/null)" ] || debian requirements/debian.txt requirements/debian-peers.txt
    scripts/peers-npm.sh
    scripts/peers-resolved.sh
fi
[ "$want" != "$(cat .cache/setup.stamp 2>/dev/null)" ] || [ ! -x .venv/bin/towpath ] || {
    [ "${1:-}" != peers ] || { scripts/peers-pypi.sh; echo "$want" >.cache/peers.stamp; }
    exit 0
}
debian requirements/debian.txt
python=python3
[ ! -x /usr/bin/python3 ] || ! /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || python=/usr/bin/python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "setup: Python 3.11 or newer is needed, $python is older" >&2; exit 1; }
[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "setup: installing the locked Python dependencies" >&2
.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.lock
.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
echo "$want" >.cache/setup.stamp
[ "${1:-}" != peers ] || { scripts/peers-pypi.sh; echo "$want" >.cache/peers.stamp; }
