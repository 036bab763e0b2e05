"""Why a destination would be allowed or refused: each rule in order until the one that decides."""

from __future__ import annotations

from typing import Any, NamedTuple

from towpath.errors import ConfigInvalid
from towpath.policy.flow import MATCH, Flow, consider
from towpath.policy.guard import guarded, local_kind
from towpath.policy.host import ADDRESS, NAME, bracketed
from towpath.policy.policy import Decision, Policy
from towpath.policy.program import Program
from towpath.policy.request import METHOD_LETTERS, Asked
from towpath.policy.rule import BY_PORT, DEFAULT_PORTS, TRANSPORTS, Rule, parse_rule

__all__ = ["Explanation", "Step", "explain"]


class Step(NamedTuple):
    """One rule that was considered, and what it had to say."""

    rule: Rule
    outcome: str
    why: str


class Explanation(NamedTuple):
    """`verdict` is "allow" or "deny"; `assumed` says what a destination leaves open and was taken for granted."""

    destination: str
    assumed: tuple[str, ...]
    decision: Decision
    steps: tuple[Step, ...]

    @property
    def verdict(self) -> str:
        return self.decision.verdict

    def as_dict(self) -> dict[str, Any]:
        """For JSON: strings, lists and `None` only."""
        rule = self.decision.rule
        return {
            "destination": self.destination,
            "verdict": self.verdict,
            "reason": self.decision.reason,
            "evidence": self.decision.evidence,
            "hint": self.decision.hint,
            "rule": None if rule is None else {"action": rule.action, "text": rule.text, "where": rule.where},
            "assumed": list(self.assumed),
            "considered": [
                {
                    "action": step.rule.action,
                    "text": step.rule.text,
                    "where": step.rule.where,
                    "outcome": step.outcome,
                    "why": step.why,
                }
                for step in self.steps
            ],
        }

    def as_text(self) -> str:
        """Several lines for people, without an end of line at the end."""
        word = "allowed" if self.verdict == "allow" else "refused"
        lines = [f"{self.destination}: {word}", f"  why:      {self.decision.reason}"]
        if self.decision.evidence:
            lines.append(f"  evidence: {self.decision.evidence}")
        lines += [f"  assumed:  {text}" for text in self.assumed]
        for step in self.steps:
            lines.append(f"  {'->' if step.outcome == 'match' else '  '} {step.rule.shown}: {step.why}")
        if self.decision.rule is None:
            lines.append(f"  -> no rule decided: the default is {self.decision.verdict}")
        if self.decision.hint:
            lines.append(f"  to allow: {self.decision.hint}")
        return "\n".join(lines)


def explain(policy: Policy, destination: str, program: Program | None = None) -> Explanation:
    """Decides a destination ``[METHOD] [SCHEME://]HOST[:PORT][/PATH]`` as a run would, for `program` if rules ask.

    Raises `ConfigInvalid` for other texts.

    A name is taken to be asked of DNS and to resolve to some address that no rule names; the bytes to be those of the
    scheme, asking for that name. Without a scheme the port says it; without a port it is 443.
    """
    url, method, path = _request(destination)
    asked = parse_rule(url, "allow", "destination")
    host, port = asked.host, asked.port
    if host.kind != NAME and not (host.kind == ADDRESS and host.bits == (32 if host.version == 4 else 128)):
        raise ConfigInvalid(
            "destination", f"{destination!r} is not one host", "a name or an address, such as good.test:443"
        )
    assumed = []
    if asked.schemes is None:
        if port is None:
            port = 443
            assumed.append("port 443, as none was given")
        scheme = BY_PORT.get(("tcp", port), "tcp")
        assumed.append(f"{scheme}, as port {port} has it")
    else:
        scheme = next(iter(asked.schemes))
        if port is None and scheme in DEFAULT_PORTS:
            port = DEFAULT_PORTS[scheme]
            assumed.append(f"port {port}, as {scheme} has it")
    if port is None and scheme != "icmp":
        raise ConfigInvalid("destination", f"{destination!r} has no port", f"{destination}:PORT")
    transport = TRANSPORTS[scheme]
    name = host.name if host.kind == NAME else None
    request = None
    if scheme == "http":
        if policy.reads_requests and not method:
            assumed.append("the method GET, as none was given")
        request = Asked(method or "GET", path or "/")
    if policy.asks_who and program is None:
        assumed.append("the program is not known, as none was given (--program)")
    shown = f"{scheme}://{bracketed(host.text)}" + (f":{port}" if port else "") + path
    if name is None:
        kind = local_kind(host.text)
        if kind is not None and policy.names_address(host.text) is None:
            reason, hint = guarded(kind, host.text, transport, port or 0)
            return Explanation(shown, tuple(assumed), Decision("deny", None, reason, "address", hint), ())
        if not policy.rules:
            assumed.append("it is no address of the host that runs it: those only a rule that names them opens")
    else:
        decision = policy.decide_name(name)
        if decision.verdict == "deny":
            if decision.hint:
                # The question is refused without a port; who asks about a port wants no more than that.
                plain = asked.schemes is None or BY_PORT.get((transport, port or 0), "tcp") == scheme
                decision = decision._replace(hint=f"--allow {f'{name}:{port}' if plain and port else shown}")
            return Explanation(shown, tuple(assumed), decision, _question_steps(policy, name, decision))
        assumed.append("its address is one that DNS gave to it, and that no rule names")
    flow = Flow.of(transport, host.text if name is None else "its address", port or 0, () if name is None else (name,))
    flow = flow._replace(who=lambda: program)
    decision = policy.decide_flow(*_asked(flow), flow.who)
    if decision.verdict == "look":
        flow = flow._replace(scheme=scheme if scheme in DEFAULT_PORTS else "other", name=name, asked=request)
        decision = policy.decide_seen(*_asked(flow), flow.scheme or "other", name, request, flow.who)
        assumed.append(f"the bytes are {flow.speaks}" + (f" and ask for {name}" if name else " and ask for no name"))
    return Explanation(shown, tuple(assumed), decision, _flow_steps(policy, flow, decision))


def _request(destination: str) -> tuple[str, str, str]:
    """A URL as people paste it: what a rule would have of it, its method and its path if it is plain HTTP, else "".

    https is TLS or QUIC at its port, and nobody sees the path.
    """
    method, space, url = destination.partition(" ")
    if not space:
        method, url = "", destination
    scheme, _, rest = url.partition("://")
    meant = {"http": "http", "https": "tls"}.get(scheme.lower())
    if (method and meant != "http") or not METHOD_LETTERS.issuperset(method):
        return destination, "", ""  # for the message of a rule
    if meant is None or not rest:
        return url, "", ""
    host, slash, path = rest.partition("/")
    path = (slash + path).partition("?")[0].partition("#")[0]
    return f"{meant}://{host.partition('?')[0].partition('#')[0]}", method, path if meant == "http" else ""


def _asked(flow: Flow) -> tuple[str, str, int, tuple[str, ...]]:
    return flow.transport, flow.address, flow.port, flow.names


def _question_steps(policy: Policy, name: str, decision: Decision) -> tuple[Step, ...]:
    steps = []
    for rule in policy.rules:
        if rule is decision.rule:
            steps.append(Step(rule, MATCH, "refuses the DNS question for it"))
            break
        steps.append(Step(rule, "skip", f"it is not about the name {name}"))
    return tuple(steps)


def _flow_steps(policy: Policy, flow: Flow, decision: Decision) -> tuple[Step, ...]:
    steps = []
    for rule in policy.rules:
        considered = consider(rule, flow)
        if rule is decision.rule:
            steps.append(Step(rule, MATCH, "allows it" if rule.action == "allow" else "refuses it"))
            break
        why = considered.why or ("only the first bytes would tell" if considered.outcome == "look" else "")
        steps.append(Step(rule, considered.outcome, why))
    return tuple(steps)
