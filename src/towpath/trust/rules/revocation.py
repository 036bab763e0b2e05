"""Revocation: the local set, the stapled response, must-staple, and lists for every certificate of the path."""

from __future__ import annotations

from cryptography import x509

from towpath.errors import PeerViolation
from towpath.trust.policy import Family
from towpath.trust.result import Level
from towpath.trust.revocation import RevocationList, Standing, Status, read_staple
from towpath.trust.rules.table import Answer, Context, Fault, Passed, Skipped, Table, Unchecked

TABLE = Table()
_CORE = {Family.CORE}
_REPLACE = "the server must use a new certificate with a new key; this one was withdrawn"


@TABLE.rule(
    "x509.revoked-here",
    "no certificate is on this host's own list",
    level=Level.X509,
    families=_CORE,
    source="local revocation set",
    required="no key and no serial number of the local set",
    hint=_REPLACE,
)
def revoked_here(context: Context) -> Answer:
    revoked = context.evidence.revoked
    if revoked is None:
        return Skipped("this host has no revocation set")
    return [
        Fault(index, f"{found.label!r} is revoked on this host")
        for index, found in enumerate(context.path)
        if revoked.names(found, context.path[index + 1] if index + 1 < len(context.path) else None)
    ]


@TABLE.rule(
    "x509.staple",
    "the stapled response calls the leaf good",
    level=Level.X509,
    families=_CORE,
    source="RFC 6960 §3.2, RFC 6066 §8",
    required="a timely response of the issuer or its delegate, with status good",
    hint="",
)
def staple(context: Context) -> Answer:
    data = context.evidence.staple
    if data is None:
        return Skipped("the server stapled nothing")
    if len(context.path) < 2:
        return Skipped("the leaf has no issuer on the path")
    standing = read_staple(data, context.leaf, context.path[1], context.at)
    if standing.status is Status.GOOD:
        return Passed(standing.detail, 0)
    hint = _REPLACE if standing.status is Status.REVOKED else "the server must fetch a new response and staple that one"
    return [Fault(0, f"the stapled response: {standing.detail}", hint=hint)]


@TABLE.rule(
    "x509.must-staple",
    "a certificate that demands a staple comes with one",
    level=Level.X509,
    families=_CORE,
    source="RFC 7633 §4.2.3.1",
    required="a stapled OCSP response",
    hint="switch on OCSP stapling in the server, or have the certificate issued without must-staple",
)
def must_staple(context: Context) -> Answer:
    features = context.leaf.value(x509.TLSFeature)
    if features is None or x509.TLSFeatureType.status_request not in features:
        return Skipped("the leaf does not demand a staple")
    if context.evidence.staple is not None:
        return []
    if not context.evidence.asked_for_staple:
        return Unchecked("the leaf demands a staple, and this TLS library cannot ask for one")
    return [Fault(0, "the leaf demands a staple and none was sent")]


@TABLE.rule(
    "x509.revocation-lists",
    "no revocation list names a certificate",
    level=Level.X509,
    families=_CORE,
    source="RFC 5280 §6.3.3",
    required="a usable list of each issuer that was given one, without the certificate on it",
    hint="",
)
def revocation_lists(context: Context) -> Answer:
    if not context.evidence.crls:
        return Unchecked("no revocation list was given", "give the issuers' lists: --crl FILE")
    lists: list[RevocationList] = []
    faults: list[Fault] = []
    for data in context.evidence.crls:
        try:
            lists.append(RevocationList(data))
        except PeerViolation as error:
            faults.append(Fault(None, str(error), hint="give a revocation list in DER or PEM form"))
    seen = 0
    for index in range(len(context.path) - 1):
        certificate, issuer = context.path[index], context.path[index + 1]
        found = [standing for item in lists if (standing := item.standing(certificate, issuer, context.at)) is not None]
        worst = _worst(found)
        seen += bool(found)
        if worst is not None and worst.status is not Status.GOOD:
            hint = _REPLACE if worst.status is Status.REVOKED else f"fetch a usable list of {issuer.label!r}"
            faults.append(Fault(index, f"{certificate.label!r}: list of {issuer.label!r}: {worst.detail}", hint=hint))
    if faults:
        return faults
    if not seen:
        return Unchecked("none of the lists is from an issuer on the path")
    return Passed(f"lists for {seen} of {len(context.path) - 1} certificates below the anchor")


def _worst(found: list[Standing]) -> Standing | None:
    """A revocation counts from any list; a list that cannot be used only where no other one of that issuer can."""
    for status in (Status.REVOKED, Status.GOOD, Status.UNUSABLE):
        for standing in found:
            if standing.status is status:
                return standing
    return None
