"""The probe matrix: which exception of the transport policy, if any, would let a server pass.

Nothing here connects: `diagnose()` is given a way to try one set of requirements.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from towpath.trust.transport import TLS_VERSIONS, DomainException, Requirements, TransportPolicy

__all__ = ["PROBES", "Attempt", "Diagnosis", "Probe", "diagnose"]


@dataclass(frozen=True, slots=True)
class Probe:
    """One try with one exception for the host; `None` is the policy switched off."""

    number: int
    title: str
    exception: DomainException | None

    def requirements(self, host: str) -> Requirements:
        """What a connection to `host` must meet in this probe."""
        if self.exception is None:
            return TransportPolicy(arbitrary_loads=True).for_host(host)
        domains = {host.lower(): self.exception} if self.exception != DomainException() else {}
        return TransportPolicy(domains=domains).for_host(host)

    @property
    def looseness(self) -> tuple[int, ...]:
        """Sorts probes from the smallest exception to the largest: what it gives up, then how many keys it needs."""
        if self.exception is None:
            return (1,)
        given_up = max(0, TLS_VERSIONS.index("1.2") - TLS_VERSIONS.index(self.exception.minimum_tls))
        keys = self.as_toml("").count(" = ")
        return 0, self.exception.insecure_http, not self.exception.forward_secrecy, given_up, keys

    def as_toml(self, host: str) -> str:
        """The exception as a transport policy file has it; empty for the strict default."""
        if self.exception is None:
            return "arbitrary_loads = true\n"
        lines = []
        if self.exception.minimum_tls != "1.2":
            lines.append(f'minimum_tls = "{self.exception.minimum_tls}"')
        if not self.exception.forward_secrecy:
            lines.append("forward_secrecy = false")
        if self.exception.insecure_http:
            lines.append("insecure_http = true")
        return "\n".join([f'[domains."{host.lower()}"]', *lines, ""]) if lines else ""


def _matrix() -> tuple[Probe, ...]:
    probes = [
        Probe(1, "the strict default", DomainException()),
        Probe(2, "the policy switched off", None),
    ]
    versions = ("1.3", "1.2", "1.1", "1.0")
    probes += [Probe(3 + at, f"TLS {found}", DomainException(minimum_tls=found)) for at, found in enumerate(versions)]
    probes.append(Probe(7, "no forward secrecy", DomainException(forward_secrecy=False)))
    probes.append(Probe(8, "no forward secrecy, http", DomainException(forward_secrecy=False, insecure_http=True)))
    for start, http in ((9, False), (13, True)):
        probes += [
            Probe(
                start + at,
                f"TLS {found}, no forward secrecy" + (", http" if http else ""),
                DomainException(minimum_tls=found, forward_secrecy=False, insecure_http=http),
            )
            for at, found in enumerate(versions)
        ]
    return tuple(probes)


PROBES = _matrix()
"""The sixteen, in their customary order."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of one probe; `detail` says why it failed."""

    probe: Probe
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Every attempt, the smallest exception that passes, and what the server should do instead."""

    attempts: tuple[Attempt, ...]
    smallest: Probe | None
    """`None`: no exception helps. Probe 1: none is needed."""
    remedies: tuple[str, ...]


async def diagnose(attempt: Callable[[Probe], Awaitable[tuple[bool, str]]]) -> Diagnosis:
    """Tries every probe; `attempt` gives whether it passed, and why not."""
    attempts = []
    for probe in PROBES:
        passed, detail = await attempt(probe)
        attempts.append(Attempt(probe, passed, detail))
    passing = [found.probe for found in attempts if found.passed]
    strict = attempts[0]
    if strict.passed:
        return Diagnosis(tuple(attempts), strict.probe, ())
    smallest = min(passing, key=lambda probe: probe.looseness, default=None)
    if smallest is not None and smallest.exception is not None and smallest.exception.insecure_http:
        # The matrix has http only together with other keys, which play no role without TLS.
        smallest = replace(smallest, title="http", exception=DomainException(insecure_http=True))
    return Diagnosis(tuple(attempts), smallest, _remedies(smallest, strict))


def _remedies(smallest: Probe | None, strict: Attempt) -> tuple[str, ...]:
    if smallest is None or smallest.exception is None:
        return (strict.detail,)
    if smallest.exception.insecure_http:
        return ("serve the same over https, and redirect http to it",)
    found = []
    if not smallest.exception.forward_secrecy:
        found.append(
            "offer an ECDHE key exchange with AES (ECDHE-RSA-AES128-GCM-SHA256 or better), or TLS 1.3; "
            "and use a key of RSA 2048, P-256 or larger"
        )
    if smallest.exception.minimum_tls in ("1.0", "1.1"):
        found.append("switch on TLS 1.2 or 1.3")
    return tuple(found) or (strict.detail,)
