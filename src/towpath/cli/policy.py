"""`towpath policy`: read policy files, and say what they mean for a destination."""

from __future__ import annotations

import argparse
import sys
import tomllib

from towpath.errors import ConfigInvalid
from towpath.policy import profile
from towpath.policy.explain import explain
from towpath.policy.file import load_file
from towpath.policy.policy import Place, Policy
from towpath.policy.program import Program
from towpath.policy.rule import Rule

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath policy check news.toml
  towpath policy profiles npm github
  towpath policy learn flows.jsonl > news.toml
  towpath policy test news.toml flows.jsonl
  towpath policy explain --policy news.toml www.news.test:443
  towpath policy explain --allow good.test:443 --json tcp://good.test:22
  towpath policy explain --allow 'GET http://good.test/simple/*' 'POST http://good.test/simple/six/'
  towpath policy explain --allow 'git.test:22 by git' --program /usr/bin/git git.test:22

A rule is [SCHEME://]HOST[:PORT]: example.test:443, *.example.test, udp://192.0.2.0/24:53, icmp://*. Plain HTTP may be
narrowed to methods and paths, every rule to programs (by PROGRAM, under PARENT, running COMMAND).
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills the parser of `towpath policy`."""
    parser.description = "Read policy files, and say what they mean for a destination."
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    check = actions.add_parser("check", help="read files and print each rule as understood (exit 1 for a mistake)")
    check.add_argument("files", metavar="FILE", nargs="+", help="a policy file (TOML)")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(call=_check)

    from towpath.cli import policy_reports

    policy_reports.add(actions)

    shipped = actions.add_parser("profiles", help="list the policies that are shipped, or print the rules of some")
    shipped.add_argument("names", metavar="NAME", nargs="*", help="a profile (default: list them all)")
    shipped.add_argument("--json", action="store_true", help="print one JSON object")
    shipped.set_defaults(call=_profiles)

    why = actions.add_parser("explain", help="say whether a destination is allowed, and why (exit 0 or 1)")
    why.add_argument("destination", metavar="DESTINATION", help="[METHOD] [SCHEME://]HOST[:PORT][/PATH]")
    why.add_argument("--policy", metavar="FILE", action="append", default=[], help="a policy file; repeatable")
    why.add_argument("--profile", metavar="NAME[,NAME]", action="append", default=[], help="rules that are shipped")
    why.add_argument("--allow", metavar="RULE", action="append", default=[], help="a rule that allows; repeatable")
    why.add_argument("--deny", metavar="RULE", action="append", default=[], help="a rule that denies; repeatable")
    why.add_argument("--json", action="store_true", help="print one JSON object")
    why.add_argument("--program", metavar="PROGRAM", help="the name of the program that asks, or its executable")
    why.add_argument(
        "--parent", metavar="NAME", action="append", default=[], help="a program it runs under; repeatable"
    )
    why.add_argument("--running", metavar="COMMAND", default="", help="its command line")
    why.set_defaults(call=_explain)


def _check(options: argparse.Namespace) -> int:
    places: list[Place] = []
    faults: list[ConfigInvalid] = []
    for path in options.files:
        try:
            places += load_file(path)
        except ConfigInvalid as error:
            faults.append(error)
    if options.json:
        _print_json(
            {
                "default": Policy(places).default,
                "places": [
                    {"where": place.where, "rules": [_as_dict(rule) for rule in (*place.deny, *place.allow)]}
                    for place in places
                ],
                "errors": [{"where": fault.where, "reason": fault.reason, "hint": fault.hint} for fault in faults],
            }
        )
    else:
        for place in places:
            print(place.where)
            for rule in (*place.deny, *place.allow):
                print(f"  {rule.action:5} {rule.text:32} {rule.meaning}")
        if not faults:
            print(f"whatever no rule matches: {Policy(places).default}")
        for fault in faults:
            print(fault, file=sys.stderr)
            if fault.hint:
                print(f"  hint: {fault.hint}", file=sys.stderr)
    return 1 if faults else 0


def _profiles(options: argparse.Namespace) -> int:
    found = {name: profile.path_of(name) for name in options.names or profile.names()}
    if options.json:
        _print_json([_described(name, path) for name, path in found.items()])
    elif options.names:
        print("\n".join(f"# profile:{name}\n{_text(path)}" for name, path in found.items()), end="")
    else:
        width = max(map(len, found))
        for name, path in found.items():
            print(f"{name:{width}}  {_described(name, path)['description']}")
    return 0


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _described(name: str, path: str) -> dict[str, object]:
    places = load_file(profile.PREFIX + name)
    return {
        "name": name,
        "description": tomllib.loads(_text(path))["description"],
        "rules": [_as_dict(rule) for place in places for rule in (*place.deny, *place.allow)],
    }


def _program(options: argparse.Namespace) -> Program | None:
    """The one that is asked about."""
    if options.program is None:
        if options.parent or options.running:
            raise ConfigInvalid("--parent, --running", "they are those of a program", "--program NAME")
        return None
    name = options.program.rpartition("/")[2]
    executable = options.program if "/" in options.program else None
    return Program(name, executable, tuple(options.running.split()), tuple(options.parent))


def _explain(options: argparse.Namespace) -> int:
    policy = Policy.load(options.allow, options.deny, [*options.policy, *profile.split(options.profile)])
    explanation = explain(policy, options.destination, _program(options))
    if options.json:
        _print_json(explanation.as_dict())
    else:
        print(explanation.as_text())
    return 0 if explanation.verdict == "allow" else 1


def _as_dict(rule: Rule) -> dict[str, object]:
    return {
        "action": rule.action,
        "schemes": None if rule.schemes is None else sorted(rule.schemes),
        "host": rule.host.text,
        "port": rule.port,
        "methods": sorted(rule.request.methods) if rule.request and rule.request.methods else None,
        "path": rule.request.path if rule.request else None,
        "by": rule.by._asdict() if rule.by else None,
        "text": rule.text,
        "where": rule.where,
        "meaning": rule.meaning,
    }


def _print_json(value: object) -> None:
    import json

    print(json.dumps(value, indent=2))
