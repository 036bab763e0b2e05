"""Apple's requirements for trusted certificates, beyond keys and hashes."""

from __future__ import annotations

from cryptography import x509

from towpath.trust import lifetimes
from towpath.trust.policy import Family, Purpose
from towpath.trust.result import Level
from towpath.trust.rules.identity import usage_names
from towpath.trust.rules.table import Answer, Context, Fault, Passed, Skipped, Table

TABLE = Table()


@TABLE.rule(
    "apple.alternative-names",
    "the server's name is among the alternative names",
    level=Level.POLICY,
    families={Family.APPLE},
    source="Apple 103769",
    required="a DNS name or IP address among the subject alternative names",
    hint="issue the certificate with its names in subjectAltName; the common name does not count",
)
def alternative_names(context: Context) -> Answer:
    if context.policy.purpose is not Purpose.SERVER:
        return Skipped("the leaf is a client's")
    if any(isinstance(name, x509.DNSName | x509.IPAddress) for name in context.leaf.alternative_names):
        return []
    return [Fault(0, "no DNS name or IP address among the alternative names")]


@TABLE.rule(
    "apple.usage",
    "the leaf states that it is for servers",
    level=Level.POLICY,
    families={Family.APPLE},
    source="Apple 103769",
    required="serverAuth in the extended key usage, if issued after 1 July 2019",
    hint="issue the certificate with extendedKeyUsage=serverAuth",
)
def usage(context: Context) -> Answer:
    if context.policy.purpose is not Purpose.SERVER:
        return Skipped("the leaf is a client's")
    if context.leaf.not_before < lifetimes.AFTER_JULY_2019:
        return Skipped("issued before July 2019")
    usages = context.leaf.extended_usages
    if usages is None:
        return [Fault(0, "no extended key usage")]
    if Purpose.SERVER.value not in usages:
        return [Fault(0, f"extended key usage {usage_names(usages)}")]
    return Passed(usage_names(usages), 0)


@TABLE.rule(
    "policy.lifetime",
    "the certificate does not live too long",
    level=Level.POLICY,
    families={Family.APPLE, Family.WEB},
    source="Apple 103769, 102028; BR 6.3.2",
    required="at most 825 days; from a public authority 398, 200, 100 or 47, by the date of issue",
    hint="",
)
def lifetime(context: Context) -> Answer:
    leaf = context.leaf
    if context.policy.purpose is not Purpose.SERVER:
        return Skipped("the leaf is a client's")
    limits = lifetimes.PUBLIC if context.public else lifetimes.APPLE_ANY_ROOT
    if not context.public and Family.APPLE not in context.policy.families:
        return Skipped("the anchor is private")
    limit = lifetimes.limit_at(limits, leaf.not_before)
    if limit is None:
        return Skipped(f"issued {leaf.not_before:%Y-%m-%d}, before any limit")
    lived = lifetimes.days(leaf.lifetime)
    if lived > limit.days:
        return [
            Fault(
                0,
                f"valid for {lived} days, issued {leaf.not_before:%Y-%m-%d}",
                f"at most {limit.days} days for certificates issued from {limit.since:%Y-%m-%d} ({limit.source})",
                f"have it issued for {limit.days - 1} days or less, and renew it automatically",
            )
        ]
    return Passed(f"{lived} of {limit.days} days", 0)
