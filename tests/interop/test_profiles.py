"""Shipped profiles, each with the real client, against hosts that a Lab imitates under their real names.

Clients are as they come: their own default registries, and the Lab's authority trusted by their ordinary settings.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support import registries
from tests.support.running import Finished, Runner

from towpath.policy import profile
from towpath.testing import Lab
from towpath.testing.plan import Dns, Http, Https, LabPlan

SERVED: dict[str, Callable[[Path], None]] = {
    "pypi.org": registries.pip_index,
    "files.pythonhosted.org": registries.pip_files,
    "registry.npmjs.org": registries.npm,
    "index.crates.io": registries.cargo_index,
    "static.crates.io": registries.cargo_crates,
    "proxy.golang.org": registries.go,
    "deb.debian.org": lambda folder: registries.apt(folder / "debian"),
    "snapshot.debian.org": lambda folder: registries.apt(folder / "archive/debian/20240101T000000Z"),
    "salsa.debian.org": lambda folder: registries.git(folder, "demo.git"),
    "github.com": lambda folder: registries.git(folder, "demo.git"),
    "evil.test": lambda folder: folder.mkdir(exist_ok=True),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of all hosts."""
    missing = [name for name in ("git", "dpkg-source", "dpkg-deb") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (make peers)")
    folder = tmp_path_factory.mktemp("served")
    for name, make in SERVED.items():
        (folder / name).mkdir()
        make(folder / name)
    return folder


@pytest.fixture(scope="module")
def world(served: Path) -> Iterator[Lab]:
    """An internet in which the well-known hosts are ours."""
    plan = LabPlan().host("client").host("dns", serves=[Dns()])
    for name in SERVED:
        folder = str(served / name)
        plan = plan.host(
            name.replace(".", "-"), serves=[Https(names=(name,), folder=folder), Http(names=(name,), folder=folder)]
        )
    with Lab(plan) as lab:
        yield lab


@pytest.fixture
def run(world: Lab, tmp_path: Path) -> Runner:
    """`towpath run` on the client, which has nobody's settings."""
    return Runner(world, "client", tmp_path)


def environment(home: Path) -> dict[str, str]:
    """A user's, without any setting of a client."""
    found = {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "PIP_CONFIG_FILE": "/dev/null",
        "NPM_CONFIG_USERCONFIG": "/dev/null",
        "NPM_CONFIG_GLOBALCONFIG": str(home / "npmrc"),
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_SYSTEM": "/dev/null",
        "CARGO_HOME": str(home / "cargo"),
        "GOPATH": str(home / "go"),
        "GOCACHE": str(home / "gocache"),
        "GOFLAGS": "-mod=mod -modcacherw",
        "GONOSUMDB": "lab.test",  # its answers are signed by a key of the Go project's
    }
    if "RUSTUP_HOME" in os.environ or Path("~/.rustup").expanduser().exists():
        found["RUSTUP_HOME"] = os.environ.get("RUSTUP_HOME") or str(Path("~/.rustup").expanduser())
    return found


def needs(*programs: str) -> None:
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed (make peers)")


EVIL = "; curl -sS --max-time 60 https://evil.test/ >&2 || echo kept from evil.test"


def use(run: Runner, home: Path, profiles: str, command: str) -> Finished:
    """Runs a client under a profile, then sees that another host is still refused."""
    done = run("--profile", profiles, command=f"{command} && echo installed{EVIL}", env=environment(home), cwd=home)
    assert done.out.splitlines()[-2:] == ["installed", "kept from evil.test"], done.err
    return done


def reached(done: Finished) -> set[str]:
    """The names of the hosts that were reached."""
    return {flow["name"] for flow in done.flows if flow["verdict"] == "allowed" and flow["type"] == "flow"}


def refused(done: Finished) -> set[str]:
    return {flow["name"] for flow in done.flows if flow["verdict"] == "refused"} - {"evil.test"}


def test_pip(run: Runner, tmp_path: Path) -> None:
    pip = "/usr/bin/python3 -m pip"
    if subprocess.run([*pip.split(), "--version"], capture_output=True, check=False).returncode:
        pytest.skip("pip of the system is not installed (python3-pip)")
    done = use(run, tmp_path, "pip", f"{pip} install -q --no-cache-dir --target packages demo-package >&2")
    assert (tmp_path / "packages/demo_package.py").exists()
    assert (reached(done), refused(done)) == ({"pypi.org", "files.pythonhosted.org"}, set())


def test_npm(run: Runner, tmp_path: Path) -> None:
    needs("npm")
    done = use(run, tmp_path, "npm", "npm install --no-fund --prefix . demo-package @scope/demo >&2")
    assert (tmp_path / "node_modules/@scope/demo/package.json").exists()
    assert (tmp_path / "node_modules/demo-package/package.json").exists()
    assert (reached(done), refused(done)) == ({"registry.npmjs.org"}, set())


def test_cargo(run: Runner, tmp_path: Path) -> None:
    needs("cargo")
    version = subprocess.run(["cargo", "--version"], capture_output=True, text=True, check=False).stdout.split()
    if len(version) < 2 or tuple(map(int, version[1].split(".")[:2])) < (1, 70):
        pytest.skip("this cargo is older than the sparse index (1.70)")
    manifest = '[package]\nname = "user"\nversion = "1.0.0"\nedition = "2021"\n[dependencies]\ndemo-crate = "1"\n'
    (tmp_path / "src").mkdir()
    (tmp_path / "src/lib.rs").write_text("")
    (tmp_path / "Cargo.toml").write_text(manifest)
    done = use(run, tmp_path, "cargo", "cargo fetch >&2")
    assert "demo-crate" in (tmp_path / "Cargo.lock").read_text()
    assert (reached(done), refused(done)) == ({"index.crates.io", "static.crates.io"}, set())


def test_go(run: Runner, tmp_path: Path) -> None:
    needs("go")
    (tmp_path / "go.mod").write_text("module user\n\ngo 1.18\n")
    (tmp_path / "main.go").write_text('package main\n\nimport _ "lab.test/demo"\n\nfunc main() {}\n')
    done = use(run, tmp_path, "go", "go get lab.test/demo@v1.0.0 >&2 && go build -o user . >&2")
    assert (tmp_path / "user").exists()
    assert (reached(done), refused(done)) == ({"proxy.golang.org"}, set())


def apt(folder: Path, *sources: str) -> str:
    """apt-get with a system of its own."""
    for name in ("etc/apt.conf.d", "etc/preferences.d", "state/lists/partial", "cache/archives/partial", "log"):
        (folder / "apt" / name).mkdir(parents=True)
    (folder / "apt/status").write_text("")
    (folder / "apt/sources.list").write_text("".join(f"{line}\n" for line in sources))
    settings = {
        "Dir::Etc::SourceList": "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc": str(folder / "apt"),
        "Dir::State": str(folder / "apt/state"),
        "Dir::State::status": str(folder / "apt/status"),
        "Dir::Cache": str(folder / "apt/cache"),
        "Dir::Log": str(folder / "apt/log"),
        "APT::Sandbox::User": "root" if not os.getuid() else "",
        "APT::Architecture": "amd64",
    }
    return "apt-get -qq " + " ".join(f"-o {key}={value}" for key, value in settings.items() if value)


def test_apt(run: Runner, tmp_path: Path) -> None:
    needs("apt-get")
    tool = apt(tmp_path, "deb [trusted=yes] http://deb.debian.org/debian stable main")
    done = use(run, tmp_path, "apt", f"{tool} update >&2 && {tool} download demo >&2")
    assert (tmp_path / "demo_1.0_all.deb").exists()
    assert reached(done) == {"deb.debian.org"}
    assert refused(done) <= {"_http._tcp.deb.debian.org"}
    posted = "curl -sS --max-time 60 -d x http://deb.debian.org/debian/ -o /dev/null -w '%{http_code}\\n'"
    assert run("--profile", "apt", command=posted).out == "403\n"


def test_a_debian_build(run: Runner, tmp_path: Path) -> None:
    needs("apt-get", "dpkg-source", "git")
    mirror = "https://snapshot.debian.org/archive/debian/20240101T000000Z"
    tool = apt(
        tmp_path,
        f"deb-src [trusted=yes] {mirror} stable main",
        "deb [trusted=yes] http://deb.debian.org/debian stable main",
    )
    command = f"{tool} update >&2 && {tool} source demo >&2 && git clone -q https://salsa.debian.org/demo.git cloned"
    done = use(run, tmp_path, "debian-build", command)
    assert (tmp_path / "demo-1.0/debian/control").exists()
    assert (tmp_path / "cloned/.git").is_dir()
    assert reached(done) == {"deb.debian.org", "snapshot.debian.org", "salsa.debian.org"}
    assert all(name.startswith(("_http._tcp.", "_https._tcp.")) for name in refused(done))


@pytest.mark.parametrize("name", ["git", "github"])
def test_git_over_https(run: Runner, tmp_path: Path, name: str) -> None:
    done = use(run, tmp_path, name, "git clone -q https://github.com/demo.git >&2")
    assert (tmp_path / "demo/.git").is_dir()
    assert (reached(done), refused(done)) == ({"github.com"}, set())


@contextmanager
def ssh_server(world: Lab, host: str, folder: Path) -> Iterator[list[str]]:
    """OpenSSH's server behind port 22 of a host of the Lab; gives the options of a client that may log in."""
    for name in ("host", "client"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    (folder / "conf").write_text(
        f"HostKey {folder}/host\nAuthorizedKeysFile {folder}/client.pub\nUsePAM no\nStrictModes no\nPidFile none\n"
        "PermitRootLogin prohibit-password\n"
    )
    (folder / "known").write_text(f"github.com {(folder / 'host.pub').read_text()}")
    os.makedirs("/run/sshd", exist_ok=True)
    listener = world[host].socket(socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("0.0.0.0", 22))
    listener.listen()
    servers: list[subprocess.Popen[bytes]] = []

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                command = ["/usr/sbin/sshd", "-i", "-e", "-f", str(folder / "conf")]
                servers.append(
                    subprocess.Popen(command, stdin=client.fileno(), stdout=client.fileno(), stderr=subprocess.DEVNULL)
                )

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ["-i", str(folder / "client"), "-o", f"UserKnownHostsFile={folder}/known", "-F", "none", "-4"]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for server in servers:
            server.kill()
            server.wait()


@pytest.mark.skipif(os.getuid() != 0, reason="OpenSSH's server logs users in as root only")
@pytest.mark.parametrize("name", ["git", "github"])
def test_git_over_ssh(run: Runner, world: Lab, served: Path, tmp_path: Path, name: str) -> None:
    needs("ssh", "ssh-keygen", "/usr/sbin/sshd")
    keys = tmp_path / "keys"
    keys.mkdir()
    with ssh_server(world, "github-com", keys) as options:
        ssh = f"export GIT_SSH_COMMAND='ssh {' '.join(options)}'"
        repository = f"root@github.com:{served}/github.com/demo.git"
        done = use(run, tmp_path, name, f"{ssh}; git clone -q {repository} cloned >&2")
    assert (tmp_path / "cloned/.git").is_dir()
    assert done.only(program="ssh", verdict="allowed", type="flow")["rule"] == "github.com:22"
    assert refused(done) == set()


def test_an_agent_may_use_all_of_them_and_nothing_else(run: Runner, tmp_path: Path) -> None:
    needs("npm")
    command = (
        "/usr/bin/python3 -m pip install -q --no-cache-dir --target packages demo-package >&2 && "
        "npm install --no-fund --prefix . demo-package >&2 && git clone -q https://github.com/demo.git >&2"
    )
    done = use(run, tmp_path, "agent", command)
    assert reached(done) == {"pypi.org", "files.pythonhosted.org", "registry.npmjs.org", "github.com"}


def test_profiles_may_be_joined(run: Runner, tmp_path: Path) -> None:
    curl = "curl -sS --max-time 60 -o /dev/null"
    command = f"{curl} https://pypi.org/simple/demo-package/ && {curl} https://github.com/demo.git/HEAD"
    assert use(run, tmp_path, "pip,git", command).code == 0
    assert run("--profile", "pip", command=command).code != 0


def test_the_page_for_newcomers_holds(run: Runner, tmp_path: Path) -> None:
    needs("npm")
    page = (Path(__file__).resolve().parents[2] / "docs/guides/agent.md").read_text()
    policy = tmp_path / "agent.toml"
    policy.write_text(page.partition("```toml\n")[2].partition("```")[0])
    command = (
        "npm install --no-fund --prefix . demo-package >&2 && git clone -q https://github.com/demo.git >&2 && "
        "echo done; curl -sS --max-time 60 https://pypi.org/simple/demo-package/ >/dev/null; echo $?"
    )
    done = run("--policy", str(policy), command=command, env=environment(tmp_path), cwd=tmp_path)
    assert done.out.splitlines() == ["done", "6"], done.err
    assert reached(done) == {"registry.npmjs.org", "github.com"}
    assert "to allow it: --allow pypi.org" in done.err


def test_every_profile_that_is_shipped_is_proved_here() -> None:
    source = Path(__file__).read_text()
    assert [name for name in profile.names() if f'"{name}"' not in source] == []
