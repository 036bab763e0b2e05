"""`towpath trust diagnose URL`: the probe matrix against a live server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from urllib.parse import urlsplit

from towpath.cli.trust import ACCEPTED, REFUSED, Question
from towpath.cli.trust_dial import Target, dial, meeting_context
from towpath.cli.trust_show import Paint, clean
from towpath.errors import ConfigInvalid, HostFault, TimedOut, TowpathError
from towpath.trust.handshake import judge
from towpath.trust.probes import Diagnosis, Probe, diagnose
from towpath.trust.transport import Requirements

__all__ = ["run"]


def run(url: str, asked: Question, *, as_json: bool) -> int:
    """Prints the matrix and the smallest exception; 0 when none is needed."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigInvalid(url, "is no http or https URL", "towpath trust diagnose https://www.example.com/")
    place = Target(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
    name = asked.name or place.host
    found = asyncio.run(_diagnose(parts.scheme, place, name, asked))
    if as_json:
        print(json.dumps(_as_dict(url, name, found)))
    else:
        _show(url, name, found)
    return ACCEPTED if found.attempts[0].passed else REFUSED


async def _diagnose(scheme: str, place: Target, name: str, asked: Question) -> Diagnosis:
    await _reachable(place, asked.timeout)

    async def attempt(probe: Probe) -> tuple[bool, str]:
        needed = probe.requirements(name)
        if scheme == "http":
            return await _cleartext(place, name, needed, asked)
        return await _encrypted(place, name, needed, asked)

    return await diagnose(attempt)


async def _reachable(place: Target, seconds: float) -> None:
    """A server that is not there fails every probe, and no exception is to blame for it."""
    try:
        async with asyncio.timeout(seconds):
            _, writer = await asyncio.open_connection(place.host, place.port)
            writer.close()
    except TimeoutError:
        raise TimedOut(f"connecting to {place}", seconds) from None
    except OSError as error:
        raise HostFault(f"connecting to {place}", error.errno or 0, error.strerror or str(error)) from error


async def _cleartext(place: Target, name: str, needed: Requirements, asked: Question) -> tuple[bool, str]:
    if not needed.cleartext:
        return False, "cleartext is refused before anything is sent: the server must be asked over https"
    try:
        async with asyncio.timeout(asked.timeout):
            reader, writer = await asyncio.open_connection(place.host, place.port)
            try:
                writer.write(f"HEAD / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode("ascii", "replace"))
                answer = await reader.read(16)
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError) as error:
        return False, str(error)
    return answer.startswith(b"HTTP/"), "" if answer.startswith(b"HTTP/") else "the server does not speak HTTP"


async def _encrypted(place: Target, name: str, needed: Requirements, asked: Question) -> tuple[bool, str]:
    try:
        peer = await dial(place, name=name, seconds=asked.timeout, context=meeting_context(needed))
    except TowpathError as error:
        return False, str(error)
    policy = replace(needed.policy, public_suffix=asked.policy.public_suffix)
    result = judge(peer.presented, name, policy, asked.anchors, evidence=asked.evidence, now=asked.moment)
    failure = result.failure
    if failure is None:
        return True, ""
    return False, f"{failure.id}: {failure.observed}; required: {failure.required}. {failure.hint}"


def _show(url: str, name: str, found: Diagnosis) -> None:
    paint = Paint()
    for attempt in found.attempts:
        word = paint.good("pass") if attempt.passed else paint.bad("fail")
        detail = "" if attempt.passed else paint.dim(f"  {clean(attempt.detail)[:150]}")
        print(f"{attempt.probe.number:2} {word}  {attempt.probe.title}{detail}")
    if found.attempts[0].passed:
        print(f"{clean(url)} meets the strict default: no exception is needed")
        return
    if found.smallest is None:
        print("no exception helps: even with the policy off the server's certificate is refused")
    else:
        print(f"smallest exception that passes: probe {found.smallest.number}, {found.smallest.title}")
        print("".join(f"    {line}\n" for line in found.smallest.as_toml(name).splitlines()), end="")
    print("the server should instead:")
    for remedy in found.remedies:
        print(f"  - {clean(remedy)}")


def _as_dict(url: str, name: str, found: Diagnosis) -> dict[str, object]:
    return {
        "url": url,
        "probes": [
            {
                "number": attempt.probe.number,
                "title": attempt.probe.title,
                "passed": attempt.passed,
                "detail": attempt.detail,
            }
            for attempt in found.attempts
        ],
        "smallest": found.smallest.number if found.smallest else None,
        "exception": found.smallest.as_toml(name) if found.smallest else None,
        "remedies": list(found.remedies),
    }
