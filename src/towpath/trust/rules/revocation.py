"""Revocation: the local set, the stapled response, must-staple, and lists for every certificate of the path."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509 import ReasonFlags

from towpath.errors import PeerViolation
from towpath.trust.certificate import Certificate
from towpath.trust.crl import ALL_REASONS, RevocationList
from towpath.trust.policy import Family
from towpath.trust.result import Level
from towpath.trust.rules.table import Answer, Context, Fault, Passed, Skipped, Table, Unchecked
from towpath.trust.signatures import issued_fault
from towpath.trust.standing import Standing, Status
from towpath.trust.stapling import read_staple

TABLE = Table()
_CORE = {Family.CORE}
MAX_SIGNERS = 8
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
    required = context.policy.require_revocation
    if not context.evidence.crls and not required:
        return Unchecked("no revocation list was given", "give the issuers' lists: --crl FILE")
    lists: list[RevocationList] = []
    faults: list[Fault] = []
    for data in context.evidence.crls:
        try:
            lists.append(RevocationList(data))
        except PeerViolation as error:
            faults.append(Fault(None, str(error), hint="give a revocation list in DER or PEM form"))
    covered = 0
    for index in range(len(context.path) - 1):
        certificate, issuer = context.path[index], context.path[index + 1]
        standing = _standing(context, index, lists)
        if standing is None:
            if required and not (index == 0 and context.evidence.staple is not None):
                hint = f"fetch the revocation list of {issuer.label!r}: --fetch-crls, or --crl FILE"
                faults.append(Fault(index, f"{certificate.label!r}: no revocation list is at hand", hint=hint))
            continue
        covered += 1
        if standing.status is not Status.GOOD:
            hint = _REPLACE if standing.status is Status.REVOKED else f"fetch a usable list of {issuer.label!r}"
            faults.append(
                Fault(index, f"{certificate.label!r}: list of {issuer.label!r}: {standing.detail}", hint=hint)
            )
    if faults:
        return faults
    if not covered and not required:
        return Unchecked("none of the lists is from an issuer on the path")
    return Passed(f"lists for {covered} of {len(context.path) - 1} certificates below the anchor")


def _standing(context: Context, index: int, lists: list[RevocationList]) -> Standing | None:
    """What all the lists say together: a revocation counts from any, a good word only for the reasons of its list."""
    certificate, issuer = context.path[index], context.path[index + 1]
    reasons: frozenset[ReasonFlags] = frozenset()
    good: Standing | None = None
    unusable: Standing | None = None
    for item in lists:
        if not item.concerns(certificate, issuer):
            continue
        standing = item.standing(certificate, issuer, _signers(context, index, item, lists), context.at)
        if standing.status is Status.REVOKED:
            return standing
        if standing.status is Status.GOOD:
            good, reasons = standing, reasons | item.reasons
        else:
            unusable = standing
    if good is not None and reasons < ALL_REASONS:
        return unusable or Standing(Status.UNUSABLE, "the lists at hand cover only some reasons for a revocation")
    return good or unusable


def _signers(context: Context, index: int, item: RevocationList, lists: list[RevocationList]) -> list[Certificate]:
    """The trusted certificates of the list's issuer: those of the path, and others which the path certifies."""
    above = context.path[index + 1 :]
    found = [certificate for certificate in above if certificate.subject_key == item.issuer_key]
    for certificate in context.pool:
        if len(found) >= MAX_SIGNERS:
            break
        if certificate.subject_key != item.issuer_key or certificate in found:
            continue
        in_date = certificate.not_before <= context.at <= certificate.not_after
        authority = next((authority for authority in above if _certifies(authority, certificate)), None)
        if in_date and authority is not None and not _withdrawn(certificate, authority, lists, context):
            found.append(certificate)
    return found


def _withdrawn(certificate: Certificate, authority: Certificate, lists: list[RevocationList], context: Context) -> bool:
    concerned = [item for item in lists if item.concerns(certificate, authority)]
    return any(
        item.standing(certificate, authority, [authority], context.at).status is Status.REVOKED for item in concerned
    )


def _certifies(authority: Certificate, certificate: Certificate) -> bool:
    usage = authority.key_usage
    may_sign = authority.is_ca and (usage is None or usage.key_cert_sign)
    named = authority.subject_key == certificate.issuer_key
    return may_sign and named and not issued_fault(certificate, authority)
