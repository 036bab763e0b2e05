"""One server and two clients of the reference protocol, in a Lab: what each is told, and what passes.

    python -m examples.tunnel

Each host runs a `HostTunnel`, as a gateway or a laptop would. A client that only wants one command through the tunnel
uses ``towpath run --tunnel wire-tunnel:client.toml -- COMMAND`` with the same file.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from towpath.testing import Http, Lab, LabHost, LabPlan

HOLD = """
import json, sys
from towpath.hosting.bundle import find_tunnel
from towpath.hosting.host_tunnel import HostTunnel

with HostTunnel(find_tunnel(sys.argv[1]), device="tunnel0") as tunnel:
    print("connected", flush=True)
    for _ in sys.stdin:
        print(json.dumps(tunnel.status().result()["peers"]), flush=True)
"""


def keys() -> tuple[str, str]:
    """What ``towpath tunnel keygen`` prints: a private key and its public one."""
    key = X25519PrivateKey.generate()
    secret, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
    return base64.b64encode(secret).decode(), base64.b64encode(public).decode()


def hold(stack: ExitStack, host: LabHost, file: Path) -> subprocess.Popen[str]:
    """Starts a tunnel on a host and waits until it is connected."""
    command = [sys.executable, "-c", HOLD, f"wire-tunnel:{file}"]
    process = host.popen(command, administrator=True, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    stack.callback(process.wait)
    stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "connected\n"
    return process


def main() -> None:
    plan = LabPlan().host("gateway", serves=[Http()]).host("anna").host("ben")
    with Lab(plan) as lab, TemporaryDirectory() as folder, ExitStack() as stack:
        gateway, people = keys(), {"anna": keys(), "ben": keys()}
        file = Path(folder, "gateway.toml")
        text = f'private_key = "{gateway[0]}"\naddresses = ["10.9.0.1/24"]\nlisten = 4500\n'
        for number, (_secret, public) in enumerate(people.values(), 2):
            text += f'[[peers]]\npublic_key = "{public}"\naddresses = ["10.9.0.{number}/32"]\n'
        file.write_text(text)
        server = hold(stack, lab["gateway"], file)
        print("The gateway listens on port 4500 and knows two keys.")

        for number, (name, (secret, _public)) in enumerate(people.items(), 2):
            file = Path(folder, f"{name}.toml")
            file.write_text(
                f'private_key = "{secret}"\naddresses = ["10.9.0.{number}/32"]\n[[peers]]\n'
                f'public_key = "{gateway[1]}"\naddresses = ["10.9.0.0/24"]\n'
                f'endpoint = "{lab["gateway"].address4}:4500"\n'
            )
            hold(stack, lab[name], file)
            page = lab[name].run(["curl", "-sS", "http://10.9.0.1/"]).stdout
            print(f"{name} reads through the tunnel: {' '.join(page.split())}")
        done = lab["anna"].run(["ping", "-c", "1", "-W", "1", "10.9.0.3"])
        print(f"anna {'reaches' if not done.returncode else 'does not reach'} ben: the gateway does not forward.")

        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write("\n")
        server.stdin.flush()
        for peer in json.loads(server.stdout.readline()):
            print(f"the gateway of {peer['public_key'][:8]}...: at {peer['endpoint']}, {peer['received']} bytes came")


if __name__ == "__main__":
    main()
