"""wg-quick files: what providers hand out is read, and a mistake is shown by its line without showing a key."""

from __future__ import annotations

import base64

import pytest

from towpath.errors import ConfigInvalid
from towpath.extensions.wireguard.config import read_config
from towpath.extensions.wireguard.provider import Config

SECRET = base64.b64encode(b"s" * 32).decode()
PUBLIC = base64.b64encode(b"p" * 32).decode()
SHARED = base64.b64encode(b"q" * 32).decode()
GOOD = f"""\
# from a provider
[Interface]
privatekey = {SECRET}   # lower case, a comment behind
Address = 10.7.0.2/32, fd07::2/128
Address = 10.8.0.2/24
DNS = 10.7.0.1, fd07::1, corp.test
MTU = 1380
PostUp = iptables -A FORWARD -i %i -j ACCEPT

[Peer]
PublicKey = {PUBLIC}
PresharedKey = {SHARED}
AllowedIPs = 0.0.0.0/0, ::/0
AllowedIPs = 192.168.3.7/24
Endpoint = [2001:db8::9]:51820
PersistentKeepalive = 25
"""


def test_a_provider_s_file_is_read_whole() -> None:
    config = read_config(GOOD, "wg0.conf")
    (peer,) = config.peers
    assert [str(one) for one in config.addresses] == ["10.7.0.2/32", "fd07::2/128", "10.8.0.2/24"]
    assert (config.dns, config.search, config.mtu) == (("10.7.0.1", "fd07::1"), ("corp.test",), 1380)
    assert [str(one) for one in peer.allowed] == ["0.0.0.0/0", "::/0", "192.168.3.0/24"]
    assert (peer.endpoint, peer.keepalive, peer.preshared_key) == (("2001:db8::9", 51820), 25, b"q" * 32)
    assert config.ignored == ("wg0.conf:8: PostUp has no effect: no command of the file is run",)


def test_what_has_no_effect_is_said_by_its_line_and_commands_apart() -> None:
    words = "Table = off\nFwMark = 0xca6c\nSaveConfig = true\nPostUp = iptables -A X"
    config = read_config(swapped("MTU = 1380", words), "wg0.conf")
    assert [line.partition(": ")[2].partition(" ")[0] for line in config.ignored] == [
        "Table",
        "FwMark",
        "SaveConfig",
        "PostUp",
    ]
    assert config.not_run == ("wg0.conf:10: PostUp has no effect: no command of the file is run",)


def test_of_two_peers_with_one_prefix_the_last_has_it_and_that_is_said() -> None:
    other = base64.b64encode(b"o" * 32).decode()
    text = swapped("PostUp = iptables -A FORWARD -i %i -j ACCEPT\n", "")
    text += f"[Peer]\nPublicKey = {other}\nAllowedIPs = ::/0, 10.0.0.0/8\n"
    said = "wg0.conf:18: AllowedIPs: ::/0 has no effect at the [Peer] of line 9: this later one has it"
    assert read_config(text, "wg0.conf").ignored == (said,)


def test_a_peer_with_this_side_s_own_key_is_said() -> None:
    config = read_config(GOOD, "wg0.conf")
    text = GOOD.replace(
        base64.b64encode(config.peers[0].public_key).decode(), base64.b64encode(config.private_key.public).decode()
    )
    (said,) = [line for line in read_config(text, "wg0.conf").ignored if "[Peer]" in line]
    assert "of this file's own PrivateKey, and the other side's is wanted" in said


PROVIDERS = {
    "a comment for each setting, spaces, one family": "# NAT-PMP = off\n# Bouncing = 0\nPrivateKey = {secret}\n"
    "Address = 10.2.0.2/32\nDNS = 10.2.0.1\n\n[Peer]\n# SE#12\nPublicKey = {public}\n"
    "AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 198.51.100.7:51820\nPersistentKeepalive = 25\n",
    "no space anywhere, both families": "PrivateKey={secret}\nAddress=10.66.10.2/32,fc00:bbbb:bbbb:bb01::3:a01/128\n"
    "DNS=10.64.0.1\n[Peer]\nPublicKey={public}\nAllowedIPs=0.0.0.0/0,::0/0\nEndpoint=198.51.100.7:51820\n",
    "a name, a preshared key, an MTU": "PrivateKey = {secret}\nAddress = 172.16.5.9/32\nDNS = 172.16.0.1\nMTU = 1412\n"
    "[Peer]\nPublicKey = {public}\nPresharedKey = {shared}\nAllowedIPs = 0.0.0.0/0, ::/0\n"
    "Endpoint = se1.wg.example.net:2049\n",
    "an IPv6 endpoint, two halves": "PrivateKey = {secret}\nAddress = 10.0.0.2\n[Peer]\nPublicKey = {public}\n"
    "AllowedIPs = 0.0.0.0/1, 128.0.0.0/1\nEndpoint = [2001:db8::7]:51820\nPersistentKeepalive = off\n",
}


@pytest.mark.parametrize("text", PROVIDERS.values(), ids=PROVIDERS.keys())
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_files_as_providers_write_them_are_read_with_nothing_left_over(text: str, ending: str) -> None:
    text = f"\ufeff[Interface]\n{text}".format(secret=SECRET, public=PUBLIC, shared=SHARED).replace("\n", ending)
    config = read_config(text, "wg0.conf")
    assert config.ignored == ()
    assert config.peers[0].endpoint is not None
    assert sum(prefix.num_addresses for prefix in config.peers[0].allowed if prefix.version == 4) == 1 << 32


def test_domains_with_a_tilde_are_those_that_its_servers_are_asked_for() -> None:
    config = read_config(swapped("fd07::1, corp.test", "~corp.test, ~10.in-addr.arpa., lab.test."), "wg0.conf")
    assert (config.dns, config.match, config.search) == (("10.7.0.1",), ("corp.test", "10.in-addr.arpa"), ("lab.test",))
    assert read_config(swapped("corp.test", "~."), "wg0.conf").match == ("",)


def swapped(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", "", "there is no [Interface]"),
        (f"[Interface]\nPrivateKey = {SECRET}\nAddress = 10.0.0.1/32\n", "", "there is no [Peer]"),
        (swapped("[Interface]", "[Interfaces]"), ":2", "unknown section '[Interfaces]'"),
        (swapped("[Interface]", "MTU = 3"), ":2", "MTU stands before any section"),
        (swapped("[Peer]", "[Interface]"), ":11", "PublicKey does not belong into [Interface]"),
        (
            swapped("MTU = 1380", "Jc = 4"),
            ":7",
            "Jc is of AmneziaWG, another protocol that is not spoken here",
        ),
        (swapped("MTU = 1380", "Reserved = 1,2,3"), ":7", "unknown key 'Reserved'"),
        (swapped("Endpoint", "EndPiont"), ":15", "unknown key 'EndPiont'"),
        (
            swapped(f"privatekey = {SECRET}", f"PrivateKey = {SECRET[:-2]}"),
            ":3",
            "PrivateKey is not a key in base64: it has 42 characters",
        ),
        (swapped(f"PublicKey = {PUBLIC}", f"PublicKey = {'*' * 44}"), ":11", "PublicKey is not a key in base64"),
        (swapped("Endpoint = [2001:db8::9]:51820", ""), ":10", "no peer has an Endpoint, and there is no ListenPort"),
        (
            swapped("AllowedIPs = 0.0.0.0/0, ::/0\nAllowedIPs = 192.168.3.7/24\n", ""),
            ":10",
            "no peer has AllowedIPs: nothing would go through the tunnel",
        ),
        (swapped(f"privatekey = {SECRET}", SECRET[:-1]), ":3", "this is neither a [Section] nor KEY = VALUE"),
        (swapped(f"privatekey = {SECRET}", ""), ":2", "[Interface] has no PrivateKey"),
        (swapped(f"PublicKey = {PUBLIC}", ""), ":10", "[Peer] has no PublicKey"),
        (swapped("10.7.0.2/32", "10.7.0.2/33"), ":4", "Address: '10.7.0.2/33' is no address"),
        (swapped("fd07::2/128", ""), ":4", "Address: an empty entry between commas"),
        (swapped("MTU = 1380", "MTU = 100"), ":7", "MTU cannot be '100'"),
        (swapped("MTU = 1380", "MTU ="), ":7", "MTU has no value"),
        (swapped("MTU = 1380", "MTU = 1380\nMTU = 1380"), ":8", "MTU stands already in line 7"),
        (swapped("192.168.3.7/24", "192.168.3.7/a"), ":14", "AllowedIPs: '192.168.3.7/a' is no prefix"),
        (swapped("[2001:db8::9]:51820", "2001:db8::9:51820"), ":15", "Endpoint cannot be '2001:db8::9:51820'"),
        (swapped("[2001:db8::9]:51820", "vpn.test"), ":15", "Endpoint cannot be 'vpn.test'"),
        (swapped("[2001:db8::9]:51820", "vpn.test:70000"), ":15", "Endpoint cannot be 'vpn.test:70000'"),
        (swapped("corp.test", "corp test"), ":6", "DNS: 'corp test' is no address and no domain"),
        (swapped("10.7.0.1, fd07::1, corp.test", "~corp.test"), ":6", "DNS: ~corp.test without a server"),
        (swapped("= 25", "= often"), ":16", "PersistentKeepalive cannot be 'often'"),
        (GOOD + f"[Peer]\nPublicKey = {PUBLIC}\n", ":18", "the peer of line 11 has the same PublicKey"),
    ],
)
def test_a_mistake_is_shown_by_its_line_and_never_shows_a_key(text: str, line: str, says: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        read_config(text, "wg0.conf")
    assert caught.value.where == f"wg0.conf{line}"
    assert caught.value.reason == says
    for secret in (SECRET, SHARED):
        assert secret[:20] not in f"{caught.value} {caught.value.hint}"


def test_no_repr_shows_a_secret() -> None:
    config = read_config(GOOD, "wg0.conf")
    shown = repr(config) + repr(Config("wg0.conf", GOOD))
    for secret in (SECRET, SHARED, "qqqq", "ssss"):
        assert secret not in shown
