"""Runs a command under sandlock: sandlocked.py RULE[,RULE] COMMAND ... (a rule as its `net_allow` has them)."""

from __future__ import annotations

import sys

from sandlock import Sandbox

http = [rule.removeprefix("http:") for rule in sys.argv[1].split(",") if rule.startswith("http:")]
net = [rule for rule in sys.argv[1].split(",") if rule and not rule.startswith("http:")]
sandbox = Sandbox(fs_readable=["/"], fs_writable=["/tmp", "/dev"], net_allow=net, http_allow=http)
result = sandbox.run(sys.argv[2:], timeout=120)
sys.stdout.write((result.stdout or b"").decode("utf-8", "replace"))
sys.stderr.write((result.stderr or b"").decode("utf-8", "replace"))
sys.exit(result.exit_code if result.exit_code is not None and result.exit_code >= 0 else 1)
