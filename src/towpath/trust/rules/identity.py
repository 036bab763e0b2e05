"""Whether the leaf is for this peer and this use: names and extended key usage."""

from __future__ import annotations

from cryptography import x509

from towpath.trust.policy import Family, Purpose
from towpath.trust.reference import Kind
from towpath.trust.result import Level
from towpath.trust.rules.table import Answer, Context, Fault, Passed, Skipped, Table

TABLE = Table()
ANY_USAGE = "2.5.29.37.0"
_USAGE_NAMES = {
    Purpose.SERVER.value: "serverAuth",
    Purpose.CLIENT.value: "clientAuth",
    ANY_USAGE: "anyExtendedKeyUsage",
}


def usage_names(usages: frozenset[str]) -> str:
    """Extended key usages for people."""
    return ", ".join(sorted(_USAGE_NAMES.get(usage, usage) for usage in usages)) or "nothing"


@TABLE.rule(
    "server.name",
    "the certificate is for the name that was meant",
    level=Level.SERVER,
    families={Family.CORE},
    source="RFC 9525 §6",
    required="a subject alternative name that matches; the common name does not count",
    hint="",
)
def name(context: Context) -> Answer:
    reference = context.reference
    if reference is None:
        return Skipped("no name was asked for")
    presented = context.leaf.alternative_names
    for candidate in presented:
        if reference.matches(candidate):
            return Passed(f"{reference} is {candidate.value}", 0)
    if not presented:
        common = context.leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        shown = "it has no subject alternative name" + (f", only the common name {common[0].value!s}" if common else "")
    else:
        shown = "it is for " + ", ".join(str(candidate.value) for candidate in presented[:8])
        shown += f" and {len(presented) - 8} more" if len(presented) > 8 else ""
    entry = {Kind.DNS: "DNS", Kind.IP: "IP", Kind.MAILBOX: "email"}[reference.kind]
    hint = f"issue the certificate with {entry}:{reference} among its subject alternative names"
    if reference.kind is Kind.DNS and presented:
        hint += ", or connect by one of the names it has"
    return [Fault(0, shown, f"{entry}:{reference}", hint)]


@TABLE.rule(
    "server.usage",
    "the leaf may be used for this side of TLS",
    level=Level.SERVER,
    families={Family.CORE},
    source="RFC 5280 §4.2.1.12",
    required="the purpose among the extended key usages, if any are stated",
    hint="issue the certificate with the extended key usage serverAuth for servers, clientAuth for clients",
)
def usage(context: Context) -> Answer:
    usages = context.leaf.extended_usages
    if usages is None:
        return Skipped("the leaf states no extended key usage")
    wanted = context.policy.purpose.value
    if wanted in usages or ANY_USAGE in usages:
        return Passed(usage_names(usages), 0)
    return [Fault(0, f"extended key usage {usage_names(usages)}", usage_names(frozenset({wanted})))]


@TABLE.rule(
    "server.usage-nesting",
    "every authority may issue for this use",
    level=Level.SERVER,
    families={Family.CORE},
    source="BR 7.1.2.10.6; Apple, fix of CVE-2026-86881",
    required="the purpose among each authority's extended key usages, if it states any",
    hint="the leaf must come from an intermediate that may issue for this use",
)
def usage_nesting(context: Context) -> Answer:
    wanted = context.policy.purpose.value
    return [
        Fault(index, f"{issuer.label!r} may only issue for {usage_names(issuer.extended_usages)}")
        for index, issuer in context.issuers()
        if issuer.extended_usages is not None and not issuer.extended_usages & {wanted, ANY_USAGE}
    ]
