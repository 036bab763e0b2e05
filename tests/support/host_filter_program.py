"""Holds a `HostFilter` where it is started: one JSON order a line on standard input, one JSON line for each outcome.

An order is ``{"number": N, "do": "start" | "enable" | "disable" | "reload" | "close" | "mark", "file": PATH}`` and its
outcome ``{"number": N, "error": null or text, "seconds": S}``. What filters say comes as ``{"said": text}``, and what
was said before a "mark" comes before its outcome. The setting "dns" names a DNS proxy for the same host, which serves
from the beginning.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import Future
from typing import Any

from towpath.hosting.bundle import find_bundle
from towpath.hosting.host_dns import HostDns
from towpath.hosting.host_filter import HostFilter

_lock = threading.Lock()


def tell(fact: dict[str, Any]) -> None:
    with _lock:
        sys.stdout.write(json.dumps(fact) + "\n")
        sys.stdout.flush()


def main() -> None:
    settings = json.loads(sys.argv[1])
    bundles = [find_bundle(text) for text in settings.pop("filters")]
    dns = settings.pop("dns", None)
    host_filter = HostFilter(bundles, say=lambda level, text: tell({"said": f"{level}: {text}"}), **settings)
    if dns is not None:
        HostDns(find_bundle(dns, "--dns", "dns-proxy"), asked=host_filter.asked).start().result()
    for line in sys.stdin:
        order = json.loads(line)
        begun = time.monotonic()
        if order["do"] == "mark":
            tell({"number": order["number"], "error": None, "seconds": 0.0})
            continue
        if order["do"] == "reload":
            future = host_filter.reload(find_bundle(order["file"]))
        else:
            future = getattr(host_filter, order["do"])()

        def outcome(done: Future[None], number: int = order["number"], begun: float = begun) -> None:
            error = done.exception()
            said = None if error is None else f"{type(error).__name__}: {error}"
            tell({"number": number, "error": said, "seconds": time.monotonic() - begun})

        future.add_done_callback(outcome)


main()
