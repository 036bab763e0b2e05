"""Programs as Debian has them, in a run of an ordinary user: what is allowed works, what is not fails as it should."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.peers import need
from tests.support.rootless import USER, Rootless
from tests.support.rootless_lab import Attempt, RootlessLab, Started

POSTGRES = "/usr/lib/postgresql/15/bin"


@pytest.fixture(scope="module")
def lab(rootless: Rootless) -> Iterator[RootlessLab]:
    with RootlessLab(rootless) as made:
        yield made


class Host:
    """The web host, on which servers are started; they end with the test."""

    def __init__(self, lab: RootlessLab) -> None:
        self.lab = lab
        self.address = lab.addresses["web"][0]
        self._started: list[Started] = []

    def folder(self, name: str) -> Path:
        made = self.lab.user.home / name
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        if not os.getuid():
            os.chown(made, USER, USER)
        return made

    def serve(self, *argv: str, port: int) -> None:
        """Starts a server, and returns when its port is open."""
        environment = self.lab.user.environment()
        pid = self.lab.ask("start", host="web", argv=argv, environment=environment)["pid"]
        self._started.append(Started(self.lab, pid))
        knock = (
            "import socket, sys\n"
            "while True:\n"
            f"    try: socket.create_connection(({self.address!r}, {port}), 60).close(); break\n"
            "    except ConnectionRefusedError: pass\n"
        )
        words = ["timeout", "120", self.lab.user.python, "-c", knock]
        assert self.lab.on_client(words).code == 0, self.stop()

    def stop(self) -> str:
        said = ""
        while self._started:
            started = self._started.pop()
            os.kill(started.pid, 9)
            said += started.finish().err
        return said


@pytest.fixture
def host(lab: RootlessLab) -> Iterator[Host]:
    made = Host(lab)
    yield made
    made.stop()


def write(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    file.chmod(0o644)
    return file


def refused(done: Attempt, what: str = "tracker.test") -> bool:
    return any("refused" in line and what in line for line in done.err.splitlines())


def test_the_programs_are_run_by_an_ordinary_user_without_rights(lab: RootlessLab) -> None:
    done = lab(["grep", "-E", "^(Uid|CapEff)", "/proc/self/status"])
    fields = {line.split(":")[0]: line.split()[1:] for line in done.out.splitlines()}
    assert "0" not in fields["Uid"]
    assert fields["CapEff"] == ["0" * 16]


HTTP = {
    "curl": ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}\\n"],
    "wget": ["wget", "-q", "-O", "/dev/null", "-S", "--tries=1"],
}


@pytest.mark.parametrize("name", HTTP)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_http_clients(lab: RootlessLab, name: str, scheme: str) -> None:
    need(name)
    words = HTTP[name]
    if name == "wget":
        words = ["sh", "-c", f'exec {" ".join(words)} --ca-certificate="$SSL_CERT_FILE" "$1"', "sh"]
    options = ("--allow", "web.test:80", "--allow", "web.test:443")
    good = lab([*words, f"{scheme}://web.test/"], *options)
    assert good.code == 0, good.err
    assert "200" in good.out + good.err
    bad = lab([*words, f"{scheme}://tracker.test/"], *options)
    assert bad.code != 0
    assert refused(bad)


def test_a_static_go_program(lab: RootlessLab, host: Host) -> None:
    """It resolves names and speaks TLS by itself, with no library between it and the kernel."""
    need("go", "file")
    folder = host.folder("fetcher")
    write(
        folder,
        "main.go",
        """package main
import ("fmt"; "io"; "net/http"; "os")
func main() {
    for _, url := range os.Args[1:] {
        answer, err := http.Get(url)
        if err != nil { fmt.Println("error", err); continue }
        body, _ := io.ReadAll(answer.Body)
        fmt.Println(answer.StatusCode, len(body) > 0)
    }
}
""",
    )
    write(folder, "go.mod", "module fetch\n\ngo 1.19\n")
    build = {"CGO_ENABLED": "0", "GOCACHE": str(folder / "cache"), "GOFLAGS": "-mod=mod", "GOPROXY": "off"}
    made = lab.user.run(["go", "build", "-o", "fetch", "."], cwd=folder, env=build, timeout=250)
    assert made.returncode == 0, made.stderr
    assert "statically linked" in lab.user.run(["file", str(folder / "fetch")]).stdout
    urls = ["http://web.test/", "https://web.test/", "http://tracker.test/", "https://tracker.test/"]
    done = lab([str(folder / "fetch"), *urls], "--allow", "web.test:80", "--allow", "web.test:443")
    assert [line.split()[0] for line in done.out.splitlines()] == ["200", "200", "error", "error"]
    assert refused(done)


def test_javas_http_client(lab: RootlessLab, host: Host) -> None:
    """It offers HTTP/2 with every first plain request, which is left out on the way."""
    need("java")
    file = write(
        host.folder("java"),
        "Fetch.java",
        """import java.net.URI;
import java.net.http.*;
class Fetch {
    public static void main(String[] urls) throws Exception {
        var client = HttpClient.newHttpClient();
        for (var url : urls) {
            try {
                var request = HttpRequest.newBuilder(URI.create(url)).build();
                System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
            } catch (java.io.IOException error) {
                System.out.println(error.getClass().getSimpleName());
            }
        }
    }
}
""",
    )
    done = lab(["java", str(file), "http://web.test/", "http://tracker.test/"], "--allow", "web.test:80")
    assert done.out.splitlines() == ["200", "ConnectException"], done.err
    assert refused(done)


def test_node(lab: RootlessLab, host: Host) -> None:
    need("node")
    file = write(
        host.folder("node"),
        "fetch.mjs",
        """for (const url of process.argv.slice(2)) {
    try { console.log((await fetch(url)).status); } catch (error) { console.log(error.cause.code); }
}
""",
    )
    words = ["sh", "-c", 'NODE_EXTRA_CA_CERTS="$SSL_CERT_FILE" exec node "$@"', "sh", str(file)]
    urls = ["http://web.test/", "https://web.test/", "https://tracker.test/"]
    done = lab([*words, *urls], "--allow", "web.test:80", "--allow", "web.test:443")
    assert done.out.split() == ["200", "200", "ENOTFOUND"]
    assert refused(done)


@pytest.mark.parametrize("sandbox", ["its own", "none"])
def test_chromium_loads_a_page_without_its_third_parties(lab: RootlessLab, host: Host, sandbox: str) -> None:
    need("chromium")
    folder = host.folder("page")
    write(
        folder,
        "index.html",
        """<title>loading</title><script src="first.js"></script><script src="http://tracker.test/third.js"
        onerror="document.title += ', third party failed'"></script>""",
    )
    write(folder, "first.js", "document.title = 'first party ran';")
    host.serve(lab.user.python, "-m", "http.server", "8088", "--directory", str(folder), port=8088)
    profile = host.folder("profile")
    words = [
        *("chromium", "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", f"--user-data-dir={profile}"),
        *(["--no-sandbox"] if sandbox == "none" else []),
        *("--virtual-time-budget=5000", "--dump-dom", "http://web.test:8088/"),
    ]
    done = lab(words, "--allow", "http://web.test:8088")
    assert "<title>first party ran, third party failed</title>" in done.out, done.err
    assert refused(done)


def test_ping(lab: RootlessLab) -> None:
    need("ping")
    words = ["ping", "-c1", "-W60"]
    assert lab([*words, "web.test"], "--allow", "icmp://web.test").code == 0
    done = lab([*words, lab.addresses["tracker"][0]], "--allow", "icmp://web.test")
    assert done.code != 0
    assert refused(done, lab.addresses["tracker"][0])


def test_dig(lab: RootlessLab) -> None:
    need("dig")
    words = ["dig", "+short", "+tries=1", "+time=60"]
    for server in ([], ["@9.9.9.9"], ["+tcp"]):
        done = lab([*words, *server, "web.test", "tracker.test"], "--allow", "web.test:443")
        assert done.out.split() == [lab.addresses["web"][0]], server
        assert refused(done)


def test_iperf3_with_datagrams(lab: RootlessLab, host: Host) -> None:
    need("iperf3")
    host.serve("iperf3", "-s", "-p", "5201", port=5201)
    words = ["iperf3", "-c", "web.test", "-u", "-b", "20M", "-t", "1", "-J"]
    done = lab(words, "--allow", "tcp://web.test:5201", "--allow", "udp://web.test:5201")
    assert done.code == 0, done.err
    figures = json.loads(done.out)["end"]["sum"]
    assert figures["packets"] > 50
    assert figures["lost_percent"] < 100
    assert refused(lab(words, "--allow", "tcp://web.test:5201"), "web.test:5201 udp")


def test_mosquitto_clients(lab: RootlessLab, host: Host) -> None:
    need("mosquitto", "mosquitto_pub", "mosquitto_sub")
    settings = write(host.folder("mqtt"), "mosquitto.conf", "listener 1883\nallow_anonymous true\n")
    host.serve("/usr/sbin/mosquitto", "-c", str(settings), port=1883)
    script = (
        "mosquitto_pub -h web.test -r -t news -m hello && mosquitto_sub -h web.test -t news -C 1 -W 60; "
        "mosquitto_pub -h tracker.test -t news -m hello; echo $?"
    )
    done = lab(["sh", "-c", script], "--allow", "tcp://web.test:1883")
    assert done.out.splitlines()[0] == "hello"
    assert done.out.splitlines()[-1] != "0"
    assert refused(done)


def test_psql(lab: RootlessLab, host: Host) -> None:
    need("psql")
    folder = host.folder("postgres")
    data = folder / "data"
    made = lab.user.run([f"{POSTGRES}/initdb", "-D", str(data), "-A", "trust", "-U", "reader", "--no-sync"])
    assert made.returncode == 0, made.stderr
    with (data / "pg_hba.conf").open("a") as file:
        file.write("host all all 0.0.0.0/0 trust\n")
    host.serve(
        f"{POSTGRES}/postgres", "-D", str(data), "-h", host.address, "-k", str(folder), "-F", port=5432
    )  # fmt: skip
    words = ["psql", "-U", "reader", "-d", "postgres", "-Atc", "select 6 * 7", "-h"]
    assert lab([*words, "web.test"], "--allow", "tcp://web.test:5432").out == "42\n"
    done = lab([*words, "tracker.test"], "--allow", "tcp://web.test:5432")
    assert done.code != 0
    assert refused(done)


def test_redis_cli(lab: RootlessLab, host: Host) -> None:
    need("redis-server", "redis-cli")
    host.serve("redis-server", "--port", "6379", "--protected-mode", "no", "--save", "", port=6379)
    words = ["redis-cli", "-h"]
    done = lab([*words, "web.test", "incr", "visits"], "--allow", "tcp://web.test:6379")
    assert done.out.strip() == "1"
    done = lab([*words, "tracker.test", "incr", "visits"], "--allow", "tcp://web.test:6379")
    assert refused(done)


def test_rsync(lab: RootlessLab, host: Host) -> None:
    need("rsync")
    folder = host.folder("rsync")
    write(folder, "file.txt", "moved")
    settings = write(folder, "rsyncd.conf", f"use chroot = no\n[files]\npath = {folder}\nread only = yes\n")
    host.serve("rsync", "--daemon", "--no-detach", "--port=8730", f"--config={settings}", port=8730)
    target = host.folder("target")
    words = ["rsync", "--contimeout=60"]
    done = lab([*words, "rsync://web.test:8730/files/file.txt", str(target)], "--allow", "tcp://web.test:8730")
    assert done.code == 0, done.err
    assert (target / "file.txt").read_text() == "moved"
    done = lab([*words, "rsync://tracker.test:8730/files/", str(target)], "--allow", "tcp://web.test:8730")
    assert done.code != 0
    assert refused(done)


def test_a_run_inside_of_a_run_can_only_narrow_it(lab: RootlessLab) -> None:
    inner = [lab.user.towpath, "run", "--allow", "*:80", "--", "curl", "-sfo", "/dev/null"]
    assert lab([*inner, "http://web.test/"], "--allow", "web.test:80").code == 0
    done = lab([*inner, "http://tracker.test/"], "--allow", "web.test:80")
    assert done.code != 0
    assert refused(done)


def test_bubblewrap_is_told_at_once_that_it_cannot_be_inside(lab: RootlessLab) -> None:
    """It needs pivot_root(2), which would take the covers off the host's sockets."""
    need("bwrap")
    done = lab(["bwrap", "--dev-bind", "/", "/", "--unshare-user", "true"], "--allow", "web.test:80")
    assert done.code != 0
    assert "pivot_root" in done.err
