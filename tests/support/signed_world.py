"""A root, `test` and zones below it, signed and served by BIND; some signed well and some badly.

In front of it stands unbound, a recursive server that does not validate.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from towpath.testing import Command

__all__ = ["SignedWorld", "make_world"]

_HEAD = "$TTL 300\n@ IN SOA ns.test. admin.test. 1 3600 900 86400 60\n@ IN NS ns.test.\n"
_ZONES = {
    "nsec3.test": "www A 192.0.2.20\n*.wild A 192.0.2.21\na.ent A 192.0.2.22\nsub NS ns.test.\n",
    "optout.test": "www A 192.0.2.30\nchild NS ns.test.\nsigned NS ns.test.\n",
    "tampered.test": "www A 192.0.2.40\ngood A 192.0.2.41\n",
    "expired.test": "www A 192.0.2.50\n",
    "early.test": "www A 192.0.2.51\n",
    "stranger.test": "www A 192.0.2.52\n",
    "stripped.test": "www A 192.0.2.53\n",
    "costly.test": "www A 192.0.2.54\n",
    "rsa.test": "www A 192.0.2.55\n",
    "edwards.test": "www A 192.0.2.56\n",
}
_PLAIN = {
    "unsigned.test": "www A 192.0.2.60\nalias CNAME www.test.\n",
    "child.optout.test": "www A 192.0.2.61\n",
    "sub.nsec3.test": "www A 192.0.2.62\n",
}
_TEST = """\
ns A {address}
www A 192.0.2.10
www AAAA 2001:db8::10
*.wild A 192.0.2.11
a.ent A 192.0.2.12
many A 192.0.2.13
alias CNAME www.nsec3.test.
astray CNAME www.tampered.test.
lost CNAME www.unsigned.test.
moved DNAME nsec3.test.
long TXT {long}
"""
_ALGORITHMS = {"rsa.test": ("RSASHA256", "-b", "2048"), "edwards.test": ("ED25519",)}
_SIGNING = {
    "nsec3.test": ("-3", "aabb", "-H", "10"),
    "optout.test": ("-3", "-", "-A"),
    "costly.test": ("-3", "aabb", "-H", "120"),
    "expired.test": ("-s", "20200101000000", "-e", "20200201000000"),
    "early.test": ("-s", "20900101000000", "-e", "20900201000000"),
}
_NAMED = """
options {{
  directory "{folder}";
  pid-file "{folder}/named-{port}.pid";
  session-keyfile none;
  managed-keys-directory "{folder}";
  listen-on port {port} {{ {address}; }};
  listen-on-v6 {{ none; }};
  recursion no;
  dnssec-validation no;
  minimal-responses yes;
  notify no;
}};
controls {{ }};
logging {{ channel file {{ file "{folder}/named-{port}.log"; }}; category default {{ file; }}; }};
{zones}
"""

_UNBOUND = """
server:
{interfaces}
  access-control: 0.0.0.0/0 allow
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  directory: "{folder}"
  use-syslog: no
  logfile: "{folder}/unbound-{port}.log"
  log-queries: yes
  verbosity: 1
  num-threads: 1
  module-config: "iterator"
  do-not-query-localhost: no
  local-zone: "test." nodefault
forward-zone:
  name: "."
  forward-addr: {address}@{authority}
remote-control:
  control-enable: no
"""


@dataclass(frozen=True)
class SignedWorld:
    """Where the zones lie, and the anchor of their root, as a line of a zone file."""

    folder: Path
    anchor: str

    def serve(self, address: str, port: int = 53, authority: int = 5300) -> Command:
        """The recursive server on `port`, and behind it the one with the zones on `authority`."""
        zones = "".join(
            f'zone "{file.stem[:-1] or "."}" {{ type primary; file "{file}"; }};\n'
            for file in sorted(self.folder.glob("*_.zone"))
        )
        facts = {"address": address, "folder": self.folder}
        named, unbound = self.folder / f"named-{authority}.conf", self.folder / f"unbound-{port}.conf"
        named.write_text(_NAMED.format(port=authority, zones=zones, **facts))
        interfaces = "\n".join(f"  interface: {one}@{port}" for one in sorted({address, "127.0.0.1"}))
        unbound.write_text(_UNBOUND.format(port=port, authority=authority, interfaces=interfaces, **facts))
        script = f"{shutil.which('named')} -f -n 1 -c {named} & exec {shutil.which('unbound')} -d -c {unbound}"
        return Command(command=("/bin/sh", "-c", script), port=port)


def make_world(folder: Path, address: str) -> SignedWorld:
    """Signs everything; `address` is where its server will be. Takes a second or two."""
    digests: dict[str, str] = {}
    for zone, records in _PLAIN.items():
        (folder / f"{zone}_.zone").write_text(f"$ORIGIN {zone}.\n{_HEAD}{records}")
    for zone, records in _ZONES.items():
        digests[zone] = _sign(folder, zone, records)
    digests["stranger.test"] = digests["expired.test"].replace("expired.test.", "stranger.test.")
    delegations = "".join(f"{zone}. NS ns.test.\n" for zone in (*_ZONES, "unsigned.test"))
    long = " ".join(f'"{number:0>200}"' for number in range(12))
    digests["test"] = _sign(
        folder, "test", _TEST.format(address=address, long=long) + delegations + "".join(digests.values())
    )
    root = "$TTL 300\n. IN SOA ns.test. admin.test. 1 3600 900 86400 60\n. IN NS ns.test.\ntest. NS ns.test.\n"
    anchor = _sign(folder, ".", f"{root}ns.test. A {address}\n{digests['test']}", head="")
    _replace(folder / "tampered.test_.zone", "192.0.2.40", "192.0.2.99")
    stripped = folder / "stripped.test_.zone"
    signed = [line for line in stripped.read_text().splitlines() if " RRSIG\tA " not in line]
    stripped.write_text("\n".join(signed) + "\n")
    return SignedWorld(folder, anchor.strip())


def _sign(folder: Path, zone: str, records: str, head: str = _HEAD) -> str:
    """Signs a zone into `ZONE_.zone`; gives its DS record as a line."""
    work = folder / f"work-{zone.strip('.') or 'root'}"
    work.mkdir()
    algorithm = _ALGORITHMS.get(zone, ("ECDSAP256SHA256",))
    made = subprocess.run(
        ["dnssec-keygen", "-q", "-K", str(work), "-a", *algorithm, "-f", "KSK", zone],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    keys = [made.stdout.strip()]
    made = subprocess.run(
        ["dnssec-keygen", "-q", "-K", str(work), "-a", *algorithm, zone], check=True, capture_output=True, text=True
    )
    keys.append(made.stdout.strip())
    source = work / "zone"
    origin = zone if zone == "." else f"{zone}."
    source.write_text(f"$ORIGIN {origin}\n{head}{records}" + "".join((work / f"{key}.key").read_text() for key in keys))
    signing = _SIGNING.get(zone, ())
    target = folder / f"{zone.strip('.')}_.zone"
    words = ("-q", "-P", "-K", str(work), "-o", origin, "-f", str(target), "-O", "full", *signing, str(source))
    subprocess.run(["dnssec-signzone", *words], check=True, capture_output=True, text=True, cwd=work)
    digest = subprocess.run(
        ["dnssec-dsfromkey", "-2", str(work / f"{keys[0]}.key")], check=True, capture_output=True, text=True
    )
    return digest.stdout


def _replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
