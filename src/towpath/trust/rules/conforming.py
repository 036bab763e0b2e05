"""What RFC 5280 §4 demands of a certificate itself, whether or not path validation looks at it."""

from __future__ import annotations

import ipaddress

from cryptography import x509

from towpath.trust import constraints
from towpath.trust.certificate import Certificate
from towpath.trust.policy import Family
from towpath.trust.reference import dns_syntax_fault, mailbox_syntax_fault
from towpath.trust.result import Level
from towpath.trust.rules.table import Answer, Context, Fault, Table
from towpath.trust.signatures import issued_fault

TABLE = Table()
_PROFILE = {Family.PROFILE}
_REISSUE = "the authority must issue this certificate anew, as the document demands"
_NEVER_CRITICAL = (
    (x509.AuthorityKeyIdentifier, "authority key identifier", "§4.2.1.1"),
    (x509.SubjectKeyIdentifier, "subject key identifier", "§4.2.1.2"),
    (x509.AuthorityInformationAccess, "authority information access", "§4.2.2.1"),
)


@TABLE.rule(
    "rfc5280.serial",
    "serial numbers are positive and at most 20 octets",
    level=Level.POLICY,
    families=_PROFILE,
    source="RFC 5280 §4.1.2.2",
    required="1 to 20 octets, positive",
    hint=_REISSUE,
)
def serial(context: Context) -> Answer:
    return [
        Fault(index, f"serial number {'not positive' if found.serial <= 0 else f'of {found.serial_octets} octets'}")
        for index, found in context.issued()
        # 20 octets of value: a first octet of zero keeps a number with its high bit set positive.
        if found.serial <= 0 or found.serial.bit_length() > 160 or found.serial_octets > 21
    ]


@TABLE.rule(
    "rfc5280.names",
    "issuers and authorities have names",
    level=Level.POLICY,
    families=_PROFILE,
    source="RFC 5280 §4.1.2.4, §4.1.2.6",
    required="a distinguished name that is not empty",
    hint=_REISSUE,
)
def names(context: Context) -> Answer:
    faults = [Fault(index, "the issuer is empty") for index, found in enumerate(context.path) if not found.issuer.rdns]
    faults += [
        Fault(index, "the authority's subject is empty") for index, found in context.issuers() if not found.subject.rdns
    ]
    return faults


@TABLE.rule(
    "rfc5280.authority-key-id",
    "every certificate names the key that signed it",
    level=Level.POLICY,
    families=_PROFILE,
    source="RFC 5280 §4.2.1.1",
    required="an authority key identifier with a key identifier, unless self-signed",
    hint="issue the certificate with authorityKeyIdentifier=keyid",
)
def authority_key_id(context: Context) -> Answer:
    return [
        Fault(index, f"{found.label!r} has no authority key identifier")
        for index, found in enumerate(context.path)
        if found.authority_key_id is None and not found.extensions_fault and not _self_signed(found)
    ]


def _self_signed(certificate: Certificate) -> bool:
    # By the key, not by the name: the exception is for a public key that is distributed signed with itself.
    return not issued_fault(certificate, certificate)


@TABLE.rule(
    "rfc5280.subject-key-id",
    "every authority names its key",
    level=Level.POLICY,
    families=_PROFILE,
    source="RFC 5280 §4.2.1.2",
    required="a subject key identifier",
    hint="issue the authority's certificate with subjectKeyIdentifier=hash",
)
def subject_key_id(context: Context) -> Answer:
    return [
        Fault(index, f"{found.label!r} has no subject key identifier")
        for index, found in context.issuers()
        if found.subject_key_id is None and not found.extensions_fault
    ]


@TABLE.rule(
    "rfc5280.criticality",
    "extensions are critical as the profile says",
    level=Level.POLICY,
    families=_PROFILE,
    source="RFC 5280 §4.2.1, §4.2.2",
    required="basic constraints of authorities and policy constraints critical; key identifiers and access not",
    hint=_REISSUE,
)
def criticality(context: Context) -> Answer:
    faults = []
    for index, found in enumerate(context.path):
        for kind, name, section in _NEVER_CRITICAL:
            extension = found.extension(kind)
            if extension is not None and extension.critical:
                faults.append(Fault(index, f"{name} is critical", f"not critical ({section})"))
        policies = found.extension(x509.PolicyConstraints)
        if policies is not None and not policies.critical:
            faults.append(Fault(index, "policy constraints are not critical", "critical (§4.2.1.11)"))
        basics = found.extension(x509.BasicConstraints)
        if index > 0 and basics is not None and not basics.critical:
            faults.append(Fault(index, "basic constraints are not critical", "critical in an authority (§4.2.1.9)"))
        alternative = found.extension(x509.SubjectAlternativeName)
        if not found.subject.rdns and alternative is not None and not alternative.critical:
            faults.append(
                Fault(index, "alternative names are not critical", "critical where the subject is empty (§4.2.1.6)")
            )
    return faults


@TABLE.rule(
    "rfc5280.name-constraints-critical",
    "name constraints are critical",
    level=Level.POLICY,
    families={Family.NAME_CONSTRAINTS_CRITICAL},
    source="RFC 5280 §4.2.1.10",
    required="critical",
    hint=_REISSUE,
)
def name_constraints_critical(context: Context) -> Answer:
    faults = []
    for index, found in enumerate(context.path):
        extension = found.extension(x509.NameConstraints)
        if extension is not None and not extension.critical:
            faults.append(Fault(index, f"the name constraints of {found.label!r} are not critical"))
    return faults


@TABLE.rule(
    "rfc5280.name-constraints-form",
    "name constraints are well written and only in authorities",
    level=Level.POLICY,
    families=_PROFILE,
    source="RFC 5280 §4.2.1.10",
    required="DNS names without a leading period, networks with a mask, only in an authority",
    hint=_REISSUE,
)
def name_constraints_form(context: Context) -> Answer:
    faults = []
    for index, found in enumerate(context.path):
        value = found.value(x509.NameConstraints)
        if value is None:
            continue
        if not found.is_ca:
            faults.append(Fault(index, f"{found.label!r} is no authority and has name constraints"))
        fault = constraints.syntax_fault(value)
        if fault:
            faults.append(Fault(index, fault))
    return faults


@TABLE.rule(
    "rfc5280.key-usage-consistent",
    "key usage and basic constraints agree",
    level=Level.POLICY,
    families=_PROFILE,
    source="RFC 5280 §4.2.1.3, §4.2.1.9",
    required="keyCertSign only with CA:TRUE; a path length only with keyCertSign",
    hint=_REISSUE,
)
def key_usage_consistent(context: Context) -> Answer:
    faults = []
    for index, found in enumerate(context.path):
        signs = found.key_usage is not None and found.key_usage.key_cert_sign
        if signs and not found.is_ca:
            faults.append(Fault(index, f"{found.label!r} has keyCertSign without CA:TRUE"))
        if found.path_length is not None and found.key_usage is not None and not signs:
            faults.append(Fault(index, f"{found.label!r} has a path length without keyCertSign"))
    return faults


@TABLE.rule(
    "rfc5280.alternative-names",
    "alternative names are well written",
    level=Level.POLICY,
    families=_PROFILE,
    source="RFC 5280 §4.2.1.6",
    required="DNS names in preferred name syntax, addresses as iPAddress, mailboxes as local@host",
    hint="issue the certificate with names in their proper form",
)
def alternative_names(context: Context) -> Answer:
    faults = []
    for index, found in context.issued():
        for name in found.alternative_names:
            fault = ""
            if isinstance(name, x509.DNSName):
                fault = dns_syntax_fault(name.value)
            elif isinstance(name, x509.RFC822Name):
                fault = mailbox_syntax_fault(name.value)
            elif isinstance(name, x509.IPAddress):
                whole = isinstance(name.value, ipaddress.IPv4Address | ipaddress.IPv6Address)
                fault = "" if whole else "it is a network, not an address"
            if fault:
                faults.append(Fault(index, f"{name.value}: {fault}"))
    return faults
