"""What Towpath and its neighbours do on the network side, each tried in the same Lab. Writes docs/comparison.md.

usage: .venv/bin/python -m scripts.compare [--only TOOL]
make peers installs the neighbours but for Codex: npm install --prefix .cache/codex @openai/codex

A row is a command under one allow list, and what a server that it must or must not reach has seen. "yes" is what a user
would wish, "no" the contrary, "-" that the tool has no option for it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.peers import CODEX, codex, npm_environment, sandbox_runtime, sandlock, towpath_run
from benchmarks.rounds import Absent

from towpath.testing import Lab
from towpath.testing.plan import Dns, Http, Https, LabPlan, UdpEcho
from towpath.testing.records import Record

ROOT = Path(__file__).resolve().parents[1]
PAGE, README = ROOT / "docs" / "comparison.md", ROOT / "README.md"
BEGIN, END = "<!-- made by scripts.compare -->", "<!-- end -->"
PLAN = (
    LabPlan()
    .host("client", serves=[Http(port=8080)])
    .host("good", serves=[Http(names=("good.test",)), Https(names=("good.test",)), UdpEcho(port=9000)])
    .host("evil", serves=[Http(names=("evil.test",)), Https(names=("evil.test",)), UdpEcho(port=9000)])
    .host("dns", serves=[Dns()])
    .record("rebind.test", "A", "127.0.0.1")
)
CURL = "curl -sS -4 --max-time 5 -o /dev/null"
PYTHON = "/usr/bin/python3 -I -c"
UDP = (
    "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); "
    "s.connect((sys.argv[1], 9000)); s.send(b'x'); print(s.recv(9))"
)
PUBLIC_LIST = ["good.test:443", "good.test:80"]
WITH_HOSTS = [*PUBLIC_LIST, "http:* good.test/*"]


@dataclass
class Seen:
    """What came of a row's command: its exit code, its words, and what the servers saw meanwhile."""

    code: int
    words: str
    good: list[Record]
    evil: list[Record]
    client: list[Record]

    @property
    def kept_from_evil(self) -> bool:
        return not self.evil

    def asked(self, path: str, host: str = "") -> bool:
        """Whether a request for a path has reached the good server, of a host if one is given."""
        return any(path in line for one in self.good for line in one.requests if not host or one.host == host)


@dataclass
class Row:
    """`rules` are the allow list of each tool, `None` where it has no such rule."""

    title: str
    command: str
    wished: Callable[[Seen], bool]
    towpath: Sequence[str] | None = tuple(PUBLIC_LIST)
    srt: Sequence[str] | None = ("good.test",)
    """Of sandbox-runtime and of Codex: both have names, and no ports, protocols, methods or paths."""
    sandlock: Sequence[str] | None = tuple(PUBLIC_LIST)
    private: bool = True
    """Whether Codex is told that names may lead to addresses which are not public; those of a Lab are not."""

    def rules(self, tool: str) -> Sequence[str] | None:
        return {"towpath": self.towpath, "srt": self.srt, "codex": self.srt, "sandlock": self.sandlock}[tool]


ROWS = [
    Row("an allowed host is reached by name", f"{CURL} https://good.test/1", lambda seen: seen.asked("/1")),
    Row(
        "by a program that ignores proxy variables too",
        f"{CURL} --noproxy '*' https://good.test/1",
        lambda seen: seen.asked("/1"),
    ),
    Row(
        "names lead to their true addresses inside",
        f"{PYTHON} \"import socket; print(socket.gethostbyname('good.test'))\"",
        lambda seen: seen.words.startswith("198.51.100."),
    ),
    Row(
        "another host is refused, and its address",
        f"{CURL} https://evil.test/; {CURL} http://EVIL/",
        lambda seen: seen.kept_from_evil,
    ),
    Row(
        "another site's Host is refused on an allowed connection",
        f"{CURL} http://good.test/1; {CURL} -H 'Host: evil.test' http://good.test/2",
        lambda seen: seen.asked("/1") and not seen.asked("/2"),
        sandlock=WITH_HOSTS,
    ),
    Row(
        "the second request of a connection is judged like the first",
        f"{CURL} http://good.test/1 --next -sS -4 --max-time 5 -H 'Host: evil.test' http://good.test/2",
        lambda seen: seen.asked("/1") and not seen.asked("/2"),
        sandlock=WITH_HOSTS,
    ),
    Row(
        "another name in the ClientHello is refused at an allowed address",
        f"{CURL} https://good.test/1; {CURL} -k --connect-to evil.test:443:good.test:443 https://evil.test/2",
        lambda seen: seen.asked("/1") and not any(one.sni == "evil.test" for one in seen.good),
    ),
    Row(
        "methods and paths of plain HTTP",
        f"{CURL} http://good.test/public/1; {CURL} -d x http://good.test/public/2; {CURL} http://good.test/3",
        lambda seen: seen.asked("/public/1") and not seen.asked("/public/2") and not seen.asked("/3"),
        towpath=["GET http://good.test/public/*"],
        srt=None,
        sandlock=["http:GET good.test/public/*"],
    ),
    Row(
        "paths in disguise are no way round them",
        f"{CURL} http://good.test/public/1; {CURL} --path-as-is http://good.test/public/%252e%252e/2; "
        f"{CURL} --path-as-is 'http://good.test/public/..;/2'; {CURL} -H 'X-Original-URL: /2' http://good.test/public/2",
        lambda seen: seen.asked("/public/1") and not seen.asked("/2"),
        towpath=["GET http://good.test/public/*"],
        srt=None,
        sandlock=["http:GET good.test/public/*"],
    ),
    Row(
        "UDP to one host by name, and to no other",
        f"{PYTHON} {shlex.quote(UDP)} good.test; {PYTHON} {shlex.quote(UDP)} EVIL",
        lambda seen: bool(seen.good) and seen.kept_from_evil,
        towpath=["udp://good.test:9000"],
        srt=None,
        sandlock=["udp://good.test:9000"],
    ),
    Row(
        "ping to one host, and to no other",
        "ping -4 -c1 -W2 good.test && ! ping -c1 -W1 EVIL",
        lambda seen: seen.code == 0,
        towpath=["icmp://good.test"],
        srt=None,
        sandlock=["icmp://good.test"],
    ),
    Row(
        "an allowed name that leads to the host's own loopback is refused",
        f"{CURL} http://rebind.test:8080/",
        lambda seen: not seen.client,
        towpath=["rebind.test:8080"],
        srt=["rebind.test"],
        sandlock=["rebind.test:8080"],
        private=False,
    ),
    Row(
        "a refusal names the host, and what would allow it",
        f"{CURL} https://evil.test/",
        lambda seen: "evil.test" in seen.words and "allow" in seen.words.replace("allowlist", ""),
    ),
    Row(
        "a refused connection is refused at once, not by a timeout",
        "timeout 3 /usr/bin/python3 -I -c \"import socket\ntry: socket.create_connection(('EVIL', 80), 9)\n"
        'except OSError as error: print(error.errno)"',
        lambda seen: seen.code == 0 and seen.words.partition("\n")[0].isdigit() and seen.kept_from_evil,
    ),
]


class Tool:
    """One party: how its command line is made from a row's rules."""

    def __init__(self, name: str, shown: str, make: Callable[[str, Row], list[str]], about: str) -> None:
        self.name, self.shown, self.make, self.about = name, shown, make, about


def _towpath(_folder: str, row: Row) -> list[str]:
    return towpath_run(*(word for rule in row.towpath or () for word in ("--allow", rule)))


TOOLS = [
    Tool("towpath", "Towpath", _towpath, "towpath run --allow RULE ... --"),
    Tool("srt", "sandbox-runtime", lambda folder, row: sandbox_runtime(folder, *row.srt or ()), "srt --settings FILE"),
    Tool(
        "codex",
        "Codex",
        lambda _folder, row: codex(*row.srt or (), private=row.private),
        "codex sandbox -P PROFILE --transparent-tcp --",
    ),
    Tool(
        "sandlock",
        "sandlock",
        lambda _folder, row: sandlock(*row.sandlock or ()),
        "Sandbox(net_allow=RULES, http_allow=RULES)",
    ),
]


def _words(command: list[str], row: Row) -> str:
    """A command line as a reader could type it."""
    text = " ".join(shlex.quote(word) for word in command)
    text = text.replace(str(ROOT) + "/", "").replace(sys.executable, ".venv/bin/python")
    return f"{text} sh -c {shlex.quote(row.command)}"


def attempt(lab: Lab, folder: str, tool: Tool, row: Row) -> tuple[str, str, str]:
    """ "yes", "no" or "-", the command line, and what it wrote."""
    if row.rules(tool.name) is None:
        return "-", "", ""
    try:
        start = tool.make(folder, row)
    except Absent as absent:
        return "not run", "", str(absent)
    before = {host.name: len(host.log) for host in lab}
    inner = row.command.replace("EVIL", lab["evil"].address4)
    command = [*start, "sh", "-c", inner]
    try:
        done = lab["client"].run(command, timeout=60, env=npm_environment(), cwd=folder)
        code, words = done.returncode, (done.stdout + done.stderr).strip()
    except subprocess.TimeoutExpired:
        code, words = 124, "(60 s passed)"
    logs = {host.name: host.log[before[host.name] :] for host in lab}
    seen = Seen(code, words, logs["good"], logs["evil"], logs["client"])
    return "yes" if row.wished(seen) else "no", _words(start, row), words[:300]


def _versions() -> str:
    found = [f"Towpath {version('towpath')}"]
    for name, package in (
        ("sandbox-runtime", ROOT / ".cache/npm/node_modules/@anthropic-ai/sandbox-runtime/package.json"),
        ("Codex", CODEX / "codex/package.json"),
    ):
        try:
            found.append(f"{name} {json.loads(package.read_text())['version']}")
        except OSError:
            found.append(f"{name}: not installed")
    try:
        found.append(f"sandlock {version('sandlock')}")
    except ImportError:
        found.append("sandlock: not installed")
    return ", ".join(found)


def table(results: dict[str, dict[str, str]], tools: Sequence[Tool]) -> str:
    """The rows in Markdown."""
    lines = ["| | " + " | ".join(tool.shown for tool in tools) + " |", "|---|" + "---|" * len(tools)]
    for row in ROWS:
        cells = [results[tool.name][row.title] for tool in tools]
        lines.append(
            f"| {row.title} | " + " | ".join(f"**{cell}**" if cell == "yes" else cell for cell in cells) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    """Tries everything, and writes the page and the README's table."""
    parser = argparse.ArgumentParser(prog="python -m scripts.compare")
    parser.add_argument("--only", choices=[tool.name for tool in TOOLS], help="try one tool, and print what it says")
    options = parser.parse_args()
    tools = [tool for tool in TOOLS if options.only in (None, tool.name)]
    results: dict[str, dict[str, str]] = {tool.name: {} for tool in tools}
    commands: list[str] = []
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    with TemporaryDirectory(prefix="towpath-compare-") as folder, Lab(PLAN) as lab:
        for row in ROWS:
            commands.append(f"\n### {row.title[0].upper()}{row.title[1:]}\n")
            for tool in tools:
                outcome, command, words = attempt(lab, folder, tool, row)
                results[tool.name][row.title] = outcome
                print(f"{tool.name:9} {outcome:7} {row.title}", flush=True)
                if options.only:
                    print("   " + words.replace("\n", "\n   "))
                if command:
                    text = command.replace(folder, "FOLDER").replace(lab["evil"].address4, "EVIL")
                    commands.append(f"- {tool.shown}, {outcome}: `{' '.join(text.split())}`")
                elif outcome == "-":
                    commands.append(f"- {tool.shown}: it has no such rule")
                else:
                    commands.append(f"- {tool.shown}, {outcome}: {words}")
    if options.only:
        return
    made = table(results, tools)
    how = "\n".join(f"- {tool.shown}: `{tool.about}`" for tool in tools)
    PAGE.write_text(
        f"# What was tried beside others\n\nMade by `python -m scripts.compare` on {date.today().isoformat()}: "
        f'{_versions()}; Linux {os.uname().release}, one Lab, the same servers for all. "yes" is what a user would '
        'wish and what the servers saw, "no" the contrary, "-" that the tool has no rule for it. Only the network side '
        "was tried: the others confine files too, Towpath does not, and they can inspect HTTPS. Codex was told to let "
        "names lead to addresses that are not public, which those of a Lab are, but for the row about loopback. "
        "firejail was started too and did not sandbox within the Lab's namespaces; OpenSnitch and Portmaster, which "
        "hold a whole host, were not tried here.\n\n"
        f"{made}\n\nHow each was started:\n\n{how}\n\n## The commands\n\n`EVIL` is the address of evil.test, `FOLDER` "
        "an empty one.\n" + "\n".join(commands) + "\n"
    )
    readme = README.read_text()
    head, mark, rest = readme.partition(BEGIN)
    if mark:
        README.write_text(f"{head}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
