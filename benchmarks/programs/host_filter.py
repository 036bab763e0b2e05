"""A filter in the network namespace where this is started: ``HOOK FILTER.py``; says "ready", ends with its input."""

from __future__ import annotations

import sys

from towpath.hosting.bundle import find_bundle
from towpath.hosting.host_filter import HostFilter

hook, text = sys.argv[1:]
assert hook in ("forward", "output")
with HostFilter([find_bundle(text)], "block", hooks=("forward" if hook == "forward" else "output",)):
    print("ready", flush=True)
    sys.stdin.read()
