"""A tunnel for an ordinary user: no right outside, and a closed device node is named."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.support.peers import need
from tests.support.rootless import Rootless
from tests.support.tunnel_lab import INNER4, Key, client_file

_PROGRAM = r"""
import json, os, subprocess, sys, time
from towpath.testing import Lab
from towpath.testing.plan import Dns, Http, LabPlan

folder, towpath, secret, public = sys.argv[1:5]
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
rights = [status[name].split() for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")]
plan = LabPlan().host("client").host("vpn", serves=[Http(), Dns()]).record("inner.test", "A", "10.77.0.1")
with Lab(plan) as lab:
    vpn = lab["vpn"]
    text = open(folder + "/server.conf").read()
    name = "wg" + os.urandom(4).hex()
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "WG_PROCESS_FOREGROUND": "1"})
    # As the Lab's administrator it is no user of the host's folders: its control socket lies in one of its own.
    line = f"mkdir -p {folder}/run && mount --bind {folder}/run /var/run && exec wireguard-go -f {name}"
    server = vpn.popen(["sh", "-c", line], administrator=True, **quiet)
    setup = (
        f"mount --bind {folder}/run /var/run; wg setconf {name} {folder}/server.conf && "
        f"ip addr add 10.77.0.1/24 dev {name} && ip link set {name} up"
    )
    for _ in range(1200):
        made = vpn.run(["sh", "-c", setup], administrator=True)
        if made.returncode == 0 or server.poll() is not None:
            break
        time.sleep(0.05)
    conf = folder + "/wg0.conf"
    with open(conf, "w") as file:
        file.write(open(folder + "/client.conf").read().replace("ENDPOINT", vpn.address4 + ":51820"))
    done = lab["client"].run([towpath, "run", "--tunnel", conf, "--", "curl", "-sS", "http://inner.test/"], timeout=120)
    server.kill()
    print(json.dumps({"uid": os.getuid(), "rights": rights, "setup": made.stderr, "code": done.returncode,
                      "out": done.stdout, "err": done.stderr}))
"""


def test_a_user_reaches_a_page_through_wireguard(rootless: Rootless) -> None:
    need("wireguard-go", "wg")
    server, client = Key.make(), Key.make()
    (rootless.home / "server.conf").write_text(
        f"[Interface]\nPrivateKey = {server.secret}\nListenPort = 51820\n"
        f"[Peer]\nPublicKey = {client.public}\nAllowedIPs = 10.77.0.2/32\n"
    )
    (rootless.home / "client.conf").write_text(client_file(client, server, "ENDPOINT", allowed="10.77.0.0/24"))
    for name in ("server.conf", "client.conf"):
        (rootless.home / name).chmod(0o644)
    done = rootless.run([rootless.python, "-c", _PROGRAM, str(rootless.home), rootless.towpath, "", ""], timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["uid"] != 0
    assert told["rights"] == [["0000000000000000"]] * 4
    assert told["code"] == 0, told
    assert "vpn" in told["out"]


def test_a_closed_node_is_named_with_what_opens_it(rootless: Rootless, tmp_path: Path) -> None:
    if os.getuid():
        pytest.skip("only root can close the node for a test, in a mount namespace of its own")
    closed = tmp_path / "tun"
    closed.touch(mode=0o600)
    (rootless.home / "wg0.conf").write_text(client_file(Key.make(), Key.make(), f"{INNER4}:1"))
    (rootless.home / "wg0.conf").chmod(0o644)
    words = [*rootless.prefix, rootless.towpath, "run", "--tunnel", "wg0.conf", "--", "touch", "ran"]
    script = f'mount --bind {closed} /dev/net/tun && exec "$@"'
    ended = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *words],
        cwd=rootless.home,
        env=rootless.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 125
    assert "/dev/net/tun may not be opened by this user" in ended.stderr
    assert "chmod 0666 /dev/net/tun" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (rootless.home / "ran").exists()
