"""Verdicts on a chain of three, with every rule of the strict policy.

Peers: `cryptography`'s own verifier, which is written in Rust and has no rules, and a validator in Python.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Callable, Mapping

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store

from benchmarks.form import Measured
from benchmarks.rounds import Absent, Party, take_turns
from towpath.testing.pki import Pki
from towpath.trust import Anchors, Policy, evaluate

_HOST = "www.example.com"
_ROUNDS = 5
_FIGURE = "verdicts_per_s"


def run(seconds: float) -> Measured:
    """Each party parses and judges the same certificates anew every time."""
    pki = Pki()
    chain, at, root = pki.good(_HOST).chain, pki.at, pki.root.certificate
    anchors, store = Anchors.of(root), Store([root])

    def ours() -> object:
        return evaluate(chain, _HOST, Policy.apple, at, anchors).raise_if_refused()

    def bare() -> object:
        leaf, *others = [x509.load_der_x509_certificate(der) for der in chain]
        return PolicyBuilder().store(store).time(at).build_server_verifier(x509.DNSName(_HOST)).verify(leaf, others)

    parties = {
        "towpath": _repeat(ours, seconds),
        "cryptography": _repeat(bare, seconds),
        "certvalidator": _in_python(pki, chain, seconds),
    }
    measured = take_turns("parse and judge a leaf and an intermediate below a known root", parties, _ROUNDS)
    measured.compare("vs_cryptography", "towpath", "cryptography", _FIGURE)
    measured.compare("vs_certvalidator", "towpath", "certvalidator", _FIGURE)
    return measured


def _repeat(judge: Callable[[], object], seconds: float) -> Party:
    def work() -> Mapping[str, float]:
        count, begun = 0, time.perf_counter()
        until = begun + seconds / _ROUNDS
        while (now := time.perf_counter()) < until:
            judge()
            count += 1
        return {_FIGURE: count / (now - begun)}

    return work


def _in_python(pki: Pki, chain: list[bytes], seconds: float) -> Party:
    try:
        asn1 = importlib.import_module("asn1crypto.x509")
        validators = importlib.import_module("pyhanko_certvalidator")
    except ImportError:
        return _absent

    anchor = asn1.Certificate.load(pki.root.certificate.public_bytes(Encoding.DER))
    loop = asyncio.new_event_loop()

    async def validate() -> None:
        leaf, *others = [asn1.Certificate.load(der) for der in chain]
        context = validators.ValidationContext(trust_roots=[anchor], moment=pki.at, allow_fetching=False)
        validator = validators.CertificateValidator(leaf, intermediate_certs=others, validation_context=context)
        await validator.async_validate_usage({"digital_signature"}, {"server_auth"})

    return _repeat(lambda: loop.run_until_complete(validate()), seconds)


def _absent() -> Mapping[str, float]:
    raise Absent("pip install pyhanko-certvalidator")
