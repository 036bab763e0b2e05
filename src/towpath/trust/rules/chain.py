"""Path validation: RFC 5280 §6.1, one rule for each of its demands."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, rsa

from towpath.trust import certificate_policies, constraints
from towpath.trust.policy import Family
from towpath.trust.result import Level
from towpath.trust.rules.table import Answer, Context, Fault, Passed, Skipped, Table

TABLE = Table()
_CORE = {Family.CORE}


@TABLE.rule(
    "x509.anchor",
    "the path ends at a trusted anchor",
    level=Level.X509,
    families=_CORE,
    source="RFC 5280 §6.1.1 (d)",
    required="a path from the leaf to one of the anchors",
    hint="",
)
def anchor(context: Context) -> Answer:
    if context.anchored:
        return Passed(f"anchor {context.path[-1].label!r}", len(context.path) - 1)
    if context.candidate.signature_fault:
        return Skipped("the path breaks at a signature, see x509.signature")
    if context.candidate.too_deep:
        return Skipped("the path is longer than the policy follows, see x509.depth")
    last, index = context.path[-1], len(context.path) - 1
    obstacle = f"{last.label!r}: {context.candidate.obstacle}"
    if last.self_issued:
        hint = (
            f"if {last.label!r} is an authority of your own, add it to the anchors; otherwise the server must use a "
            "certificate from an authority that its clients trust"
        )
    else:
        hint = f"the server must send the certificate of {last.issuer_label!r} after its own"
        if last.issuer_urls:
            hint += f"; the missing certificate can be had at {last.issuer_urls[0]}"
        if index > 0:
            hint += f"; if {last.issuer_label!r} is an authority of your own, add it to the anchors"
    return [Fault(index, obstacle, hint=hint)]


@TABLE.rule(
    "x509.parse",
    "every certificate can be read in full",
    level=Level.X509,
    families=_CORE,
    source="RFC 5280 §4.2",
    required="well-formed extensions, each at most once",
    hint="the authority must issue this certificate anew: no client can be sure what it says",
)
def parse(context: Context) -> Answer:
    return [
        Fault(index, f"{certificate.label!r}: {certificate.extensions_fault}")
        for index, certificate in enumerate(context.path)
        if certificate.extensions_fault
    ]


@TABLE.rule(
    "x509.signature",
    "every certificate is signed by the next",
    level=Level.X509,
    families=_CORE,
    source="RFC 5280 §6.1.3 (a)(1)",
    required="a signature that verifies with the issuer's key",
    hint="",
)
def signature(context: Context) -> Answer:
    if context.candidate.signature_fault:
        last = context.path[-1]
        return [
            Fault(
                len(context.path) - 1,
                f"{last.label!r}: {context.candidate.signature_fault}",
                hint=f"send the certificate of {last.issuer_label!r} that holds the key which signed {last.label!r}; "
                "the one at hand has the same name and another key; if it is an authority of your own, add its present "
                "certificate to the anchors",
            )
        ]
    disagreeing = [index for index, certificate in enumerate(context.path) if not certificate.algorithms_agree]
    return [Fault(index, "the two signature algorithm fields disagree") for index in disagreeing]


@TABLE.rule(
    "x509.strength",
    "no key is of a size that has been broken",
    level=Level.X509,
    families=_CORE,
    source="NIST SP 800-131A",
    required="RSA and DSA keys of at least 1024 bits; policies ask for more",
    hint="make a new key (RSA 2048 or larger, or P-256) and have the certificate issued for it",
)
def strength(context: Context) -> Answer:
    return [
        Fault(index, f"{certificate.label!r} has {certificate.key_name}")
        for index, certificate in enumerate(context.path)
        if isinstance(certificate.key, rsa.RSAPublicKey | dsa.DSAPublicKey) and certificate.key.key_size < 1024
    ]


@TABLE.rule(
    "x509.validity",
    "every certificate is in date",
    level=Level.X509,
    families=_CORE,
    source="RFC 5280 §6.1.3 (a)(2)",
    required="a time from notBefore to notAfter, both included",
    hint="",
)
def validity(context: Context) -> Answer:
    faults = []
    for index, certificate in enumerate(context.path):
        if context.at < certificate.not_before:
            faults.append(
                Fault(
                    index,
                    f"{certificate.label!r} is valid from {certificate.not_before:%Y-%m-%d %H:%M:%S} UTC only",
                    hint="check the clock of this host; otherwise the server must wait or use another certificate",
                )
            )
        elif context.at > certificate.not_after:
            faults.append(
                Fault(
                    index,
                    f"{certificate.label!r} expired at {certificate.not_after:%Y-%m-%d %H:%M:%S} UTC",
                    hint=f"{_renewal(context, index)}; check the clock of this host, too",
                )
            )
    return faults


def _renewal(context: Context, index: int) -> str:
    if index == 0:
        return "the server must renew it"
    if context.anchored and index == len(context.path) - 1:
        return "update the certificate store of this host, or have the server send a path to a newer root"
    return "the server must send a newer one of the same name"


@TABLE.rule(
    "x509.basic-constraints",
    "every issuer is a certificate authority",
    level=Level.X509,
    families=_CORE,
    source="RFC 5280 §6.1.4 (k)",
    required="basic constraints with CA:TRUE",
    hint="the leaf must be issued by a certificate that is an authority; a server's certificate may not sign others",
)
def basic_constraints(context: Context) -> Answer:
    return [
        Fault(index, f"{issuer.label!r} is no certificate authority")
        for index, issuer in context.issuers()
        if not issuer.is_ca and not issuer.extensions_fault
    ]


@TABLE.rule(
    "x509.key-usage",
    "every issuer's key may sign certificates",
    level=Level.X509,
    families=_CORE,
    source="RFC 5280 §6.1.4 (n)",
    required="keyCertSign, if key usage is stated",
    hint="the authority must be issued anew with keyCertSign in its key usage",
)
def key_usage(context: Context) -> Answer:
    return [
        Fault(index, f"the key usage of {issuer.label!r} lacks keyCertSign")
        for index, issuer in context.issuers()
        if issuer.key_usage is not None and not issuer.key_usage.key_cert_sign
    ]


@TABLE.rule(
    "x509.path-length",
    "no authority has more authorities below it than it may",
    level=Level.X509,
    families=_CORE,
    source="RFC 5280 §6.1.4 (l), (m)",
    required="at most pathLenConstraint intermediates below, self-issued ones not counted",
    hint="issue the leaf directly from this authority, or have the authority issued anew with a larger path length",
)
def path_length(context: Context) -> Answer:
    faults = []
    below = 0
    for index, issuer in context.issuers():
        if issuer.path_length is not None and below > issuer.path_length:
            faults.append(
                Fault(index, f"{issuer.label!r} allows {issuer.path_length} authorities below it and has {below}")
            )
        below += not issuer.self_issued
    return faults


@TABLE.rule(
    "x509.depth",
    "the path is short enough",
    level=Level.X509,
    families=_CORE,
    source="the policy's own bound",
    required="no more intermediates than the policy allows, self-issued ones not counted",
    hint="shorten the chain, or raise max_intermediates of the policy",
)
def depth(context: Context) -> Answer:
    between = context.path[1:-1] if context.anchored else context.path[1:]
    if not context.anchored and not context.candidate.too_deep:
        return Skipped("the path does not reach an anchor")
    count = sum(not certificate.self_issued for certificate in between)
    allowed = context.policy.max_intermediates
    return [Fault(None, f"{count} intermediates", f"at most {allowed}")] if count > allowed else []


@TABLE.rule(
    "x509.name-constraints",
    "every name lies where its authorities may issue",
    level=Level.X509,
    families=_CORE,
    source="RFC 5280 §4.2.1.10, §6.1.3 (b), (c)",
    required="names within the permitted and outside the excluded subtrees",
    hint="the leaf must be issued with names its authority may issue, or by another authority",
)
def name_constraints(context: Context) -> Answer:
    found = constraints.faults(context.path)
    if found is None:
        return Skipped("no certificate of the path constrains names")
    return [Fault(index, observed, required) for index, observed, required in found]


@TABLE.rule(
    "x509.critical-extensions",
    "no critical extension is unknown",
    level=Level.X509,
    families=_CORE,
    source="RFC 5280 §4.2, §6.1.4 (o), §6.1.5 (f)",
    required="every critical extension is one that is processed here",
    hint="the authority must issue the certificate without this extension, or mark it as not critical",
)
def critical_extensions(context: Context) -> Answer:
    return [
        Fault(index, f"{certificate.label!r} has the critical extension {identifier}")
        for index, certificate in enumerate(context.path)
        for identifier in certificate.unknown_critical
    ]


@TABLE.rule(
    "x509.certificate-policies",
    "a certificate policy that is required is valid along the path",
    level=Level.X509,
    families=_CORE,
    source="RFC 5280 §6.1, RFC 9618",
    required="an acceptable policy from anchor to leaf, where one is required",
    hint="the certificate named lacks the policy that its authorities demand: it must be issued with it",
)
def certificate_policies_(context: Context) -> Answer:
    asked = context.policy.certificate_policies.explicit
    if not asked and all(
        certificate.value(x509.PolicyConstraints) is None and "2.5.29.33" not in certificate.extensions
        for certificate in context.path
    ):
        return Skipped("no policy is required")
    found = certificate_policies.fault(context.path, context.policy.certificate_policies)
    return [Fault(*found)] if found else []
