#!/bin/sh
# What a page does when a browser opens it, and two programs that know of no proxy. Nothing here knows of the policy.
here=$(dirname "$0")
say() { printf '\n$ %s\n' "$*"; "$@"; }

say curl -sS https://news.test/
say curl -sS https://tracker.test/pixel
say curl -sS --max-time 5 -o /dev/null -w '%{http_code} in %{time_total} s\n' http://slow.test/
say curl -sS -H 'Host: tracker.test' http://slow.test/
say python3 "$here/raw.py" tls tracker.test 443
say python3 "$here/raw.py" banner git.test 22
say python3 "$here/raw.py" udp time.test 9000
exit 0
