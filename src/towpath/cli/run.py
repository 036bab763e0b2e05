"""`towpath run`: a command with only the network it was allowed."""

from __future__ import annotations

import argparse
import sys

from towpath.errors import CommandUnusable, ConfigInvalid

__all__ = ["add"]

_EPILOG = """\
A RULE is [SCHEME://]HOST[:PORT]; schemes are tls, quic, http, tcp, udp, icmp. Without a scheme, port 443 means tls and
quic, 80 means http, any other port tcp. HOST is a name, *.suffix, *, an address or a prefix. Once any --allow is given,
everything else is refused; --deny comes before --allow. Plain HTTP can be narrowed to methods and paths ('GET
http://HOST/PATH/*'), and every rule to programs ('HOST:22 by git', 'HOST:443 under npm').

examples:
  towpath run -- curl https://example.org/                    its own network, everything allowed
  towpath run --allow pypi.org:443 --allow files.pythonhosted.org:443 -- pip download six
  towpath run --profile npm,github -- npm install             what is shipped for npm and GitHub, nothing else
  towpath run --policy agent.toml --report table -- ./agent   rules from a file, a table of all flows at the end
  towpath run --learn agent.toml -- ./agent                   write down what it needs, as a policy
  towpath run --dns secure_dns:ads.toml -- chromium           block lists, encrypted names, servers by domain
  towpath run --allow-local 5432 --publish 8080:80 -- ./app   the host's database in, the app's web page out
  towpath run --tunnel wg0.conf -- ./app                      leave by WireGuard, DNS included, or not at all

exit code: the command's own; 126 and 127 as a shell has them; 125 when Towpath itself failed; killed by signal N,
towpath ends by N.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the options of `towpath run`."""
    parser.usage = "towpath run [options] -- COMMAND [ARGUMENT ...]"
    parser.epilog = _EPILOG
    rules = parser.add_argument_group("what it may reach")
    rules.add_argument("--allow", action="append", default=[], metavar="RULE", help="allow what the rule names")
    rules.add_argument("--deny", action="append", default=[], metavar="RULE", help="refuse what the rule names")
    rules.add_argument("--policy", action="append", default=[], metavar="FILE", help="rules from a TOML file")
    rules.add_argument(
        "--profile",
        action="append",
        default=[],
        metavar="NAME[,NAME]",
        help="rules that are shipped: pip, npm, github, ... (towpath policy profiles)",
    )
    rules.add_argument(
        "--allow-local",
        action="append",
        default=[],
        type=_port,
        metavar="PORT",
        help="a port of the host's loopback",
    )
    rules.add_argument(
        "--publish", action="append", default=[], metavar="[HOSTPORT:]PORT", help="let the host reach a server inside"
    )
    rules.add_argument(
        "--allow-unix", action="append", default=[], metavar="PATH", help="a Unix socket of the host's that it may use"
    )
    rules.add_argument("--learn", metavar="FILE", help="write the smallest policy that would have let this run pass")
    rules.add_argument(
        "--learn-wildcards",
        action="store_true",
        help="with --learn: one rule for three names of one parent",
    )
    rules.add_argument(
        "--learn-requests", action="store_true", help="with --learn: of plain HTTP, the methods and paths"
    )
    judge = parser.add_argument_group("who else decides")
    judge.add_argument(
        "--filter",
        action="append",
        default=[],
        dest="filters",
        metavar="FILE.py|FOLDER|NAME[:CONFIG.toml]",
        help="ask a content filter after the policy; the first of several that drops wins",
    )
    judge.add_argument(
        "--dns",
        metavar="FILE.py|FOLDER|NAME[:CONFIG.toml]",
        help="let a DNS proxy answer for names, after the policy and the filters; secure-dns is shipped",
    )
    judge.add_argument(
        "--on-failure",
        choices=("block", "pass"),
        default="block",
        help="of a filter or DNS proxy that crashes, hangs or raises: what it would have decided "
        "(default: %(default)s)",
    )
    judge.add_argument(
        "--reload", action="store_true", help="take over filters (and --dns) whose files change, and all on SIGHUP"
    )
    leave = parser.add_argument_group("by which way it leaves")
    leave.add_argument(
        "--tunnel",
        metavar="FILE.conf|FILE.py|NAME[:CONFIG]",
        help="leave by a tunnel alone: WireGuard by a wg-quick file, or an extension",
    )
    judge.add_argument("--ask-with", metavar="CMD", help="who answers filters that ask (default: the terminal)")
    inherit = parser.add_argument_group("what it inherits")
    inherit.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="set, or with NAME= empty")
    inherit.add_argument(
        "--keep-fd", action="append", default=[], type=int, metavar="N", help="keep an open descriptor of any kind"
    )
    inherit.add_argument(
        "--no-protect", action="store_true", help="let it write files that run later: shell start-up, ~/.ssh, git hooks"
    )
    say = parser.add_argument_group("what it says")
    say.add_argument("--report", choices=("table", "markdown", "json", "none"), help="of all flows (default: none)")
    say.add_argument("--report-file", metavar="FILE", help="write the report there (default: JSON lines)")
    say.add_argument(
        "--capture", metavar="FILE.pcapng", help="write its packets there, with program, flow and rule as comments"
    )
    say.add_argument(
        "--capture-secrets", action="store_true", help="with --capture: and the secrets to read TLS (SSLKEYLOGFILE)"
    )
    say.add_argument("--watch", action="store_true", help="draw its flows as they come (see: towpath top)")
    say.add_argument("--quiet", action="store_true", help="no lines about refusals")
    say.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="warning", help="default: %(default)s"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parser.set_defaults(call=call)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def _environment(settings: list[str]) -> dict[str, str]:
    found = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise ConfigInvalid("--env", f"{setting!r} is not NAME=VALUE", "for example --env DEBUG=1")
        found[name] = value
    return found


def call(options: argparse.Namespace) -> int:
    """Runs the command."""
    from towpath.policy import profile
    from towpath.sandbox.options import RunOptions
    from towpath.sandbox.run import run

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise ConfigInvalid("towpath run", "no command was given", "towpath run --allow pypi.org:443 -- COMMAND")
    if options.capture_secrets and not options.capture:
        raise ConfigInvalid("--capture-secrets", "the secrets go into a capture", "--capture FILE.pcapng")
    publish = []
    if options.publish:
        from towpath.sandbox.publish import parse_publish

        publish = [parse_publish(text) for text in options.publish]
    try:
        return run(
            RunOptions(
                argv=command,
                allow=options.allow,
                deny=options.deny,
                policy=[*options.policy, *profile.split(options.profile)],
                allow_local=sorted(set(options.allow_local)),
                publish=publish,
                allow_unix=options.allow_unix,
                keep_fd=options.keep_fd,
                environment=_environment(options.env),
                report=options.report or ("json" if options.report_file else "none"),
                report_file=options.report_file,
                level="error" if options.quiet else options.log_level,
                filters=options.filters,
                tunnel=options.tunnel,
                on_failure=options.on_failure,
                reload=options.reload,
                ask_with=options.ask_with,
                protect=not options.no_protect,
                learn=options.learn,
                learn_wildcards=options.learn_wildcards,
                learn_requests=options.learn_requests,
                capture=options.capture,
                capture_secrets=options.capture_secrets,
                watch=options.watch,
                dns=options.dns,
            )
        )
    except CommandUnusable as error:
        print(f"towpath: {error}", file=sys.stderr)
        return error.code
