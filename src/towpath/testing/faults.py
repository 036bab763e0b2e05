"""How hosts of the Lab are broken, and mended again.

| kind | what clients see | amount |
|---|---|---|
| ``silent`` | connected, then nothing; datagrams unanswered | |
| ``reset`` | connected, then RST | |
| ``slow`` | answers trickle | ``bytes_per_second`` |
| ``refuse`` | connection refused, port unreachable | |
| ``black-hole`` | nothing at all, not even a connection | |
| ``loss`` | packets vanish, each way | ``percent`` |
| ``rate`` | a narrow link, each way | ``rate``, as tc(8) writes it |
| ``delay`` | packets are late, each way; for hosts whose plan has a delay, be it 0 | ``seconds`` |
| ``mtu-black-hole`` | packets over so many bytes vanish and nobody says so, each way | ``bytes`` |
| ``link-down`` | the cable is pulled | |

The first five are of one `port`, or of the whole host without it; the others are always of the whole host. Flapping
is ``link-down`` entered and left again.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from towpath.errors import HostFault, Misuse
from towpath.kernel import system

if TYPE_CHECKING:
    from towpath.testing.lab_host import LabHost

__all__ = ["Fault", "apply"]

Fault = Literal[
    "silent", "reset", "slow", "refuse", "black-hole", "loss", "rate", "delay", "mtu-black-hole", "link-down"
]
Mend = Callable[[], None]

_numbers = itertools.count()
_AMOUNTS = {"slow": "bytes_per_second", "loss": "percent", "rate": "rate", "delay": "seconds",
            "mtu-black-hole": "bytes"}  # fmt: skip
_OF_SERVICES = ("silent", "reset", "slow")
_OF_HOSTS = ("loss", "rate", "delay", "mtu-black-hole", "link-down")
_SAY_NOTHING = """
chain output {
    type filter hook output priority -300;
    icmp type destination-unreachable icmp code frag-needed drop
    icmpv6 type packet-too-big drop
}
"""


def apply(host: LabHost, kind: Fault, port: int | None, amount: Mapping[str, float | str]) -> Mend:
    """Breaks it, and gives what mends it. Raises `Misuse` for an amount that the kind has not, or lacks."""
    wanted = _AMOUNTS.get(kind)
    if set(amount) != ({wanted} if wanted else set()):
        raise Misuse(f"the fault {kind!r} takes {wanted or 'no amount'}, not {', '.join(amount) or 'nothing'}")
    if port is not None and kind in _OF_HOSTS:
        raise Misuse(f"the fault {kind!r} is of a whole host, not of a port")
    if kind in _OF_SERVICES:
        return _trouble(host, kind, port, amount.get("bytes_per_second"))
    if kind == "link-down":
        return _pull(host)
    if kind == "rate":
        return _narrow(host, str(amount["rate"]))
    if kind == "delay":
        return _delay(host, float(amount["seconds"]))
    if kind == "mtu-black-hole":
        return _swallow(host, int(amount["bytes"]))
    return _filter(host, _rules(kind, port, float(amount.get("percent", 0))))


def _trouble(host: LabHost, kind: str, port: int | None, rate: float | str | None) -> Mend:
    served = [service.port for service in host.lab.services(host.name) if service.port]
    if port is not None and port not in served:
        raise Misuse(f"{host.name} serves nothing of its own on port {port}")
    number = None if rate is None else int(rate)
    if number is not None and number < 1:
        raise Misuse(f"{rate} bytes a second are none")
    host.lab.ask(host.name, {"ask": "trouble", "port": port, "kind": kind, "bytes_per_second": number})
    mended = {"ask": "trouble", "port": port, "kind": None, "bytes_per_second": None}

    def mend() -> None:
        host.lab.ask(host.name, mended)

    return mend


def _pull(host: LabHost) -> Mend:
    def set_all(up: bool) -> None:
        for card in host.lab.layout.cards(host.name):
            host.lab.world.set_card(host.name, card.device, up=up)

    set_all(False)
    return lambda: set_all(True)


def _delay(host: LabHost, seconds: float) -> Mend:
    cards = host.lab.layout.cards(host.name)
    planned = cards[0].delay
    if planned is None or seconds < 0:
        raise Misuse(f"{host.name} cannot be delayed by {seconds:g} s: only a host whose plan has a delay, be it 0")

    def set_all(value: float) -> None:
        for card in cards:
            host.lab.world.set_delay(host.name, card.device, value)

    set_all(seconds)
    return lambda: set_all(planned)


def _ends(host: LabHost) -> list[tuple[str, str]]:
    """Both ends of each of the host's links, as node and device."""
    return [
        end
        for card in host.lab.layout.cards(host.name)
        for end in ((host.name, card.device), (card.upstream, card.port))
    ]


def _swallow(host: LabHost, size: int) -> Mend:
    if not 1280 <= size <= 1500:
        raise Misuse(f"packets of {size} bytes: 1280, which is the least of IPv6, to 1500")

    def set_all(mtu: int) -> None:
        for node, device in _ends(host):
            _administer(host, node, ["ip", "link", "set", device, "mtu", str(mtu)])

    speak = [_filter(host, _SAY_NOTHING, node) for node in {node for node, _device in _ends(host)}]
    set_all(size)

    def mend() -> None:
        set_all(1500)
        for each in speak:
            each()

    return mend


def _narrow(host: LabHost, rate: str) -> Mend:
    ends = _ends(host)

    def on_all(change: str) -> None:
        for node, device in ends:
            _administer(host, node, change.format(device).split())

    on_all(f"tc qdisc replace dev {{}} root tbf rate {rate} burst 32k latency 100ms")
    return lambda: on_all("tc qdisc del dev {} root")


def _filter(host: LabHost, rules: str, node: str | None = None) -> Mend:
    table = f"fault{next(_numbers)}"
    where = node or host.name
    _administer(host, where, ["nft", "-f", "-"], f"table inet {table} {{\n{rules}}}\n")
    return lambda: _administer(host, where, ["nft", "delete", "table", "inet", table])


def _rules(kind: str, port: int | None, percent: float) -> str:
    match = "" if port is None else f"meta l4proto {{ tcp, udp }} th dport {port} "
    if kind == "loss":
        if not 0 < percent <= 100:
            raise Misuse(f"a loss of {percent:g} percent is none")
        lost = "drop" if percent == 100 else f"numgen random mod 10000 < {max(1, int(percent * 100))} drop"
        return "".join(
            f"chain {hook} {{ type filter hook {hook} priority -300; {lost}; }}\n" for hook in ("input", "output")
        )
    if kind == "black-hole":
        verdicts = [f"{match}drop"]
    else:
        verdicts = [f"{match}meta l4proto tcp reject with tcp reset", f"{match}meta l4proto udp reject"]
    return f"chain input {{ type filter hook input priority -300; {'; '.join(verdicts)}; }}\n"


def _administer(host: LabHost, node: str, command: list[str], words: str = "") -> None:
    handle = host.lab.world.handle(node)
    try:
        done = subprocess.run(
            command,
            preexec_fn=lambda: system.hosts.enter(handle, administrator=True),
            input=words,
            text=True,
            capture_output=True,
            check=False,
        )
    except FileNotFoundError:
        raise HostFault(
            command[0], 2, f"the program {command[0]} is missing", "apt-get install iproute2 nftables"
        ) from None
    if done.returncode:
        raise HostFault(command[0], 22, f"{' '.join(command)}: {done.stderr.strip()}")
