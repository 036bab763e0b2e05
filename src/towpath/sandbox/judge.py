"""What may be dialled: the policy's answer, with the evidence of names and the guard of local addresses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towpath.kernel.system import addresses
from towpath.policy.guard import embedded, guarded, is_public_name, local_kind, private_kind
from towpath.policy.policy import Decision, Policy
from towpath.policy.program import Program
from towpath.policy.request import Asked
from towpath.sandbox.name_spread import NameSpread
from towpath.sandbox.uplink import HostUplink
from towpath.wire import dns
from towpath.wire.ip import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from towpath.hosting.names import NameEvidence
    from towpath.sandbox.flows import Flow
    from towpath.sandbox.uplink import Uplink

__all__ = ["Judge"]

_MOST_REMEMBERED = 65536
_OPEN = Decision("allow", None, "the run has no policy", "", None)


class _Who:
    """The program behind a flow, looked for when a rule asks."""

    __slots__ = ("_find", "_flow", "asked")

    def __init__(self, flow: Flow, find: Callable[[Flow], None]) -> None:
        self._flow = flow
        self._find = find
        self.asked = False

    def __call__(self) -> Program | None:
        self.asked = True
        self._find(self._flow)
        owner = self._flow.owner
        if owner is None:
            return None
        return Program(owner.program, owner.executable, owner.command, tuple(name for _, name in owner.parents))


class Judge:
    """Decides once for each destination and remembers it until the names of an address change.

    Where a rule asks for the program, `find_owner` looks for it, and nothing is remembered. `uplink` is the way by
    which all leaves.
    """

    def __init__(
        self,
        policy: Policy,
        names: NameEvidence,
        own: addresses.OwnAddresses,
        find_owner: Callable[[Flow], None] = lambda _flow: None,
        uplink: Uplink | None = None,
    ) -> None:
        self.policy = policy
        self.names = names
        self._own = own
        self._find_owner = find_owner
        self._uplink = uplink or HostUplink()
        self._decided: dict[tuple[str, bytes, int, str, str | None], Decision] = {}
        self._stamp: tuple[int, frozenset[bytes]] = (0, own.addresses)
        self._spread = NameSpread()
        self.tell: Callable[[str], None] = lambda _text: None
        """Called with what the person who started the run should know and no refusal says."""

    def replace(self, policy: Policy) -> None:
        """Decides by another policy from now on."""
        self.policy = policy
        self._decided.clear()

    def forget(self) -> None:
        """Something that was taken into account is no longer so."""
        self._decided.clear()

    def flow(self, flow: Flow) -> Decision:
        """Before any byte: "allow", "deny", or "look" at what the flow says of itself."""
        transport, address, port = flow.transport, flow.address, flow.port
        names = self._names(address)
        key = (transport, address, port, "", None)
        decision = self._decided.get(key)
        if decision is None:
            who = _Who(flow, self._find_owner) if self.policy.asks_who else None
            decision = self._decide(transport, address, port, names, who)
            if who is None or not who.asked:
                self._decided[key] = decision
        return decision

    def _names(self, address: bytes) -> tuple[str, ...]:
        """The names of an address now; what was decided while others held is no longer remembered after this."""
        names = self.names.of(address)
        stamp = (self.names.generation, self._own.addresses)
        if stamp != self._stamp or len(self._decided) > _MOST_REMEMBERED:
            self._decided.clear()
            self._stamp = stamp
        return names

    def _decide(self, transport: str, address: bytes, port: int, names: tuple[str, ...], who: _Who | None) -> Decision:
        text = text_of(address)
        guarded = self._guard(transport, address, text, port)
        if guarded is not None:
            return guarded
        decision = _OPEN if self.policy.empty else self.policy.decide_flow(transport, text, port, names, who)
        # What the policy refuses is told by its rule; only what may leave needs a way.
        return (self._uplink.refusal(text) if decision.verdict != "deny" else None) or decision

    def _guard(self, transport: str, address: bytes, text: str, port: int) -> Decision | None:
        kind = local_kind(text) or ("an address of this host" if self._leads_here(address, text) else None)
        if kind is None or self.policy.names_address(text) is not None:
            return None
        reason, hint = guarded(kind, text, transport, port)
        return Decision("deny", None, reason, "address", hint)

    def _leads_here(self, address: bytes, text: str) -> bool:
        """Whether it is an address of this host, or an IPv6 address that a gateway would take for one."""
        own = self._own.addresses
        return (
            address in own
            or addresses.leads_here(text)
            or (
                len(address) == 16
                and any(inner.to_bytes(4, "big") in own for inner in embedded(int.from_bytes(address)))
            )
        )

    def seen(self, flow: Flow, scheme: str, name: str | None, asked: Asked | None = None) -> Decision:
        """After looking at the bytes: "allow" or "deny". `asked` is the HTTP request, if it is one."""
        transport, address, port = flow.transport, flow.address, flow.port
        names = self._names(address)
        if not self.policy.reads_requests:
            asked = None
        key = (transport, address, port, scheme, name)
        decision = self._decided.get(key) if asked is None else None
        if decision is None:
            who = _Who(flow, self._find_owner) if self.policy.asks_who else None
            decision = self.policy.decide_seen(transport, text_of(address), port, names, scheme, name, asked, who)
            if asked is None and (who is None or not who.asked):
                self._decided[key] = decision
        return decision

    def question(self, name: str) -> Decision:
        """May a DNS question for this name leave?"""
        if self.policy.empty:
            return _OPEN
        decision = self.policy.decide_name(name)
        if decision.verdict == "allow" and decision.rule is not None:
            many = self._spread.note(decision.rule, name)
            if many is not None:
                self.tell(many)
        return decision

    def screen(self, name: str, answer: bytes) -> dns.Screened:
        """The answer to a question for `name` as the program may see it. Raises `PeerViolation`."""
        if self.policy.empty:
            return dns.Screened(answer, (), ech_removed=False)
        public = is_public_name(name)
        return dns.screen(answer, lambda address: self._admits(address, public))

    def admits_all(self, name: str, found: list[str]) -> bool:
        """Whether an answer that holds nothing but these addresses may reach the program as it is."""
        if self.policy.empty:
            return True
        public = is_public_name(name)
        return all(self._admits(address, public) for address in found)

    def _admits(self, address: str, public: bool) -> bool:
        """A public name must not lead into a private network, nor to this host."""
        far = not self._uplink.private_is_near or private_kind(address) is None
        if local_kind(address) is None and (far or not public):
            return True
        return self.policy.names_address(address) is not None
