"""Fetching issuers and revocation lists for `towpath trust`: plain http, bounded in time and size, few redirects."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from email.message import Message
from typing import IO

from towpath.trust.aia import CachedFetch
from towpath.trust.lists import MAX_LIST_OCTETS

__all__ = ["fetcher"]


class _PlainRedirects(urllib.request.HTTPRedirectHandler):
    max_redirections = 2

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("http://"):
            raise urllib.error.HTTPError(newurl, code, "a redirect away from plain http", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def fetcher(timeout: float) -> Callable[[str], bytes]:
    """A fetch with a cache; `timeout` in seconds for each silence of the peer."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _PlainRedirects(),
    ):
        opener.add_handler(handler)

    def fetch(url: str) -> bytes:
        request = urllib.request.Request(url, headers={"User-Agent": "towpath"})
        with opener.open(request, timeout=timeout) as answer:
            data: bytes = answer.read(MAX_LIST_OCTETS + 1)
        return data if len(data) <= MAX_LIST_OCTETS else b""

    return CachedFetch(fetch)
