"""A Lab needs no rights: it comes up, serves and ends for an ordinary user."""

from __future__ import annotations

import json
from subprocess import CompletedProcess

from tests.support.rootless import Rootless

_PROGRAM = """
import json
from towpath.testing import Https, Lab

with Lab.build().host("client").host("news", serves=[Https(names=("news.test",))]).start() as lab:
    client = lab["client"]
    page = client.run(["curl", "-sS", "https://news.test/"])
    ping = client.run(["ping", "-c1", "-W2", lab["news"].address4])
    status = client.run(["grep", "-E", "^(Uid|Gid|CapEff|CapPrm)", "/proc/self/status"]).stdout
    nested = client.run(["unshare", "--user", "--map-current-user", "--net", "--mount", "--pid", "--fork",
                         "--mount-proc", "sh", "-c", "id -u; echo /proc/[0-9]*"])
    with lab["news"].fault("refuse", port=443):
        refused = client.run(["curl", "-sS", "https://news.test/"])
    print(json.dumps([page.stdout, page.stderr, ping.returncode, status, nested.stdout, nested.stderr,
                      refused.returncode, [record.sni for record in lab["news"].log]]))
"""


def test_an_ordinary_user_runs_a_lab(rootless: Rootless) -> None:
    done = rootless.run([rootless.python, "-c", _PROGRAM])
    assert done.returncode == 0, done.stderr
    page, errors, ping, status, nested, nested_errors, refused, names = json.loads(done.stdout)
    user = rootless.run(["id", "-u"]).stdout.strip()
    assert "This is news." in page, errors
    assert ping == 0
    assert [line.split()[1:] for line in status.splitlines()] == [[user] * 4, [user] * 4, ["0" * 16], ["0" * 16]]
    assert nested == f"{user}\n/proc/1\n", nested_errors
    assert refused == 7
    assert names == ["news.test"]


def test_the_users_files_keep_their_owner_on_a_host(rootless: Rootless) -> None:
    program = """
from towpath.testing import Lab
with Lab.build().host("client").start() as lab:
    lab["client"].run(["touch", "made-on-a-host"], check=True)
"""
    done = rootless.run([rootless.python, "-c", program])
    assert done.returncode == 0, done.stderr
    assert (rootless.home / "made-on-a-host").stat().st_uid == int(rootless.run(["id", "-u"]).stdout)


def test_an_ordinary_user_keeps_a_lab_up(rootless: Rootless) -> None:
    def lab(*words: str) -> CompletedProcess[str]:
        return rootless.run([rootless.towpath, "lab", *words], env={"XDG_RUNTIME_DIR": str(rootless.home)})

    (rootless.home / "small.toml").write_text('[hosts.client]\n[hosts.web]\nserves = [{ kind = "https" }]\n')
    up = lab("up", "small.toml", "--json")
    assert up.returncode == 0, up.stderr
    web = next(host for host in json.loads(up.stdout)["hosts"] if host["name"] == "web")
    try:
        page = lab("exec", "client", "--", "curl", "-sS", f"https://{web['ipv4']}/")
        assert "This is web." in page.stdout, page.stderr
    finally:
        down = lab("down", "small")
    assert down.returncode == 0, down.stderr
    assert lab("list").stdout == ""
