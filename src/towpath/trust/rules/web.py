"""What the Baseline Requirements of the CA/Browser Forum let a client see in a certificate."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID

from towpath.trust import lifetimes
from towpath.trust.certificate import Certificate
from towpath.trust.policy import Family, Purpose
from towpath.trust.reference import wildcard_base
from towpath.trust.result import Level
from towpath.trust.rules.identity import ANY_USAGE, usage_names
from towpath.trust.rules.table import Answer, Context, Fault, Passed, Skipped, Table
from towpath.trust.signatures import issued_fault

TABLE = Table()
_WEB = {Family.WEB}
_REISSUE = "the authority must issue this certificate anew, as the document demands"


@TABLE.rule(
    "web.version",
    "certificates are version 3",
    level=Level.POLICY,
    families=_WEB,
    source="BR 7.1.1",
    required="version 3",
    hint=_REISSUE,
)
def version(context: Context) -> Answer:
    return [
        Fault(index, f"{found.label!r} is of version {found.version.value + 1}")
        for index, found in context.issued()
        if found.version is not x509.Version.v3
    ]


@TABLE.rule(
    "web.usage",
    "the leaf states its use, and no more than it needs",
    level=Level.POLICY,
    families=_WEB,
    source="BR 7.1.2.7.6, 7.1.2.7.10",
    required="an extended key usage, not critical, with the purpose and without anyExtendedKeyUsage",
    hint="issue the certificate with extendedKeyUsage=serverAuth, not critical",
)
def usage(context: Context) -> Answer:
    if context.policy.purpose is not Purpose.SERVER:
        return Skipped("the leaf is a client's")
    extension = context.leaf.extension(x509.ExtendedKeyUsage)
    if extension is None:
        return [] if context.leaf.extensions_fault else [Fault(0, "no extended key usage")]
    usages = context.leaf.extended_usages or frozenset()
    if extension.critical:
        return [Fault(0, "the extended key usage is critical")]
    if ANY_USAGE in usages:
        return [Fault(0, f"extended key usage {usage_names(usages)}")]
    return Passed(usage_names(usages), 0)


@TABLE.rule(
    "policy.leaf-authority",
    "the leaf is no authority",
    level=Level.POLICY,
    families={Family.WEB, Family.APPLE},
    source="BR 7.1.2.7.8; Apple 103769",
    required="basic constraints absent or CA:FALSE",
    hint="serve a certificate of its own for this server, issued by the authority, not the authority's",
)
def leaf_authority(context: Context) -> Answer:
    if context.leaf.is_ca:
        return [Fault(0, f"{context.leaf.label!r} is a certificate authority")]
    return []


@TABLE.rule(
    "web.common-name",
    "a common name repeats an alternative name",
    level=Level.POLICY,
    families=_WEB,
    source="BR 7.1.4.3",
    required="one common name at most, a copy of an alternative name, character for character",
    hint="issue the certificate without a common name: clients no longer read it",
)
def common_name(context: Context) -> Answer:
    found = [attribute.value for attribute in context.leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    if not found or context.policy.purpose is not Purpose.SERVER:
        return Skipped("the leaf has no common name" if not found else "the leaf is a client's")
    names = {_text(name) for name in context.leaf.alternative_names}
    if len(found) > 1 or found[0] not in names:
        return [
            Fault(
                0, f"the common name {found[0]!r} is no alternative name" if len(found) == 1 else "several common names"
            )
        ]
    return []


def _text(name: x509.GeneralName) -> str:
    return str(name.value) if isinstance(name, x509.DNSName | x509.IPAddress) else ""


@TABLE.rule(
    "web.alternative-names",
    "alternative names are there, and critical only without a subject",
    level=Level.POLICY,
    families=_WEB,
    source="BR 7.1.2.7.12",
    required="alternative names; critical exactly where the subject is empty",
    hint="issue the certificate with its names in subjectAltName, not critical",
)
def alternative_names(context: Context) -> Answer:
    if context.policy.purpose is not Purpose.SERVER:
        return Skipped("the leaf is a client's")
    extension = context.leaf.extension(x509.SubjectAlternativeName)
    if extension is None:
        return [] if context.leaf.extensions_fault else [Fault(0, "no subject alternative name")]
    if extension.critical and context.leaf.subject.rdns:
        return [Fault(0, "the alternative names are critical beside a subject")]
    return []


@TABLE.rule(
    "web.wildcards",
    "the name is not matched by a wildcard over a public suffix",
    level=Level.POLICY,
    families=_WEB,
    source="BR 3.2.2.6",
    required="a wildcard over a name that someone can own",
    hint="name the hosts one by one, or use a wildcard below a domain of your own",
)
def wildcards(context: Context) -> Answer:
    faults = []
    reference, suffix = context.reference, context.policy.public_suffix
    for name in context.leaf.dns_names:
        base = "" if name == "*" else wildcard_base(name)
        # An owner of a whole suffix may hold such a name; it just identifies no one *below* it.
        if base is None or (reference is not None and not _spans(base.lower(), reference.value)):
            continue
        if "." not in base or (suffix is not None and suffix(base.lower())):
            faults.append(Fault(0, f"{name} covers every name under a public suffix"))
    return faults


def _spans(base: str, name: str) -> bool:
    return not base or name.partition(".")[2] == base


@TABLE.rule(
    "web.anchor-form",
    "the anchor has the form of a root certificate",
    level=Level.POLICY,
    families=_WEB,
    source="BR 7.1.2.1.2, 7.1.2.1.3",
    required="no extended key usage; an authority key identifier only with its own key identifier",
    hint="trust a root certificate that is formed as the Baseline Requirements demand",
)
def anchor_form(context: Context) -> Answer:
    anchor, index = context.path[-1], len(context.path) - 1
    if not context.anchored or not anchor.self_issued or issued_fault(anchor, anchor):
        return Skipped("the anchor is not self-signed")
    faults = []
    if anchor.extended_usages is not None:
        faults.append(Fault(index, f"{anchor.label!r} states an extended key usage"))
    if _authority_key_id_fault(anchor):
        faults.append(Fault(index, f"{anchor.label!r}: {_authority_key_id_fault(anchor)}"))
    return faults


def _authority_key_id_fault(anchor: Certificate) -> str:
    identifier = anchor.value(x509.AuthorityKeyIdentifier)
    if identifier is None:
        return ""
    if identifier.authority_cert_issuer is not None or identifier.authority_cert_serial_number is not None:
        return "its authority key identifier names an issuer or a serial number"
    if identifier.key_identifier is None:
        return "its authority key identifier has no key identifier"
    if identifier.key_identifier != anchor.subject_key_id:
        return "its authority key identifier is not its subject key identifier"
    return ""


@TABLE.rule(
    "web.revocation-pointer",
    "a public certificate says where its revocation is published",
    level=Level.POLICY,
    families=_WEB,
    source="BR 7.1.2.7.7, 7.1.2.11.2; ballot SC-063",
    required="a CRL distribution point or an OCSP responder, unless the certificate is short-lived",
    hint="the authority must issue the certificate with a CRL distribution point, or for a few days only",
)
def revocation_pointer(context: Context) -> Answer:
    leaf = context.leaf
    if not context.public or context.policy.purpose is not Purpose.SERVER:
        return Skipped("only for servers with a public authority")
    short = lifetimes.limit_at(lifetimes.SHORT_LIVED, leaf.not_before)
    if short is not None and lifetimes.days(leaf.lifetime) <= short.days:
        return Passed(f"short-lived: {lifetimes.days(leaf.lifetime)} of {short.days} days", 0)
    access = leaf.value(x509.AuthorityInformationAccess)
    responders = [entry for entry in access or () if entry.access_method == AuthorityInformationAccessOID.OCSP]
    if leaf.value(x509.CRLDistributionPoints) is None and not responders:
        return [Fault(0, "neither a CRL distribution point nor an OCSP responder")]
    return []
