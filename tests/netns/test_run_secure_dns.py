"""The shipped DNS proxy in a run: lists, rewrites and servers by domain with real programs; a list that changes."""

from __future__ import annotations

from pathlib import Path

from tests.support.running import Runner

from towpath.testing import Lab


def config(folder: Path, text: str) -> str:
    file = folder / "secure_dns.toml"
    file.write_text(text)
    return f"secure_dns:{file}"


def test_advertisers_are_not_found_and_everything_else_is(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "ads.txt").write_text("||tracker.test^\n")
    given = config(tmp_path, 'block_lists = ["ads.txt"]\n[rewrites]\n"news.test" = "web.test"\n')
    done = run(
        "--dns", given, command="curl -sS http://web.test/; curl -sS http://tracker.test/; curl -sS http://news.test/"
    )
    assert done.out.count("This is web.") >= 1
    assert "Could not resolve host: tracker.test" in done.err
    assert "refused curl" in done.err
    assert "it is on ads.txt" in done.err


def test_short_names_are_tried_in_the_domains_of_the_settings(run: Runner, tmp_path: Path) -> None:
    given = config(tmp_path, 'search = ["nowhere.test", "web.test."]\n')
    done = run(
        "--dns", given, command="grep ^search /etc/resolv.conf; getent ahostsv4 www | head -1; cat /etc/resolv.conf"
    )
    search, found, *_ = done.out.splitlines()
    assert search == "search nowhere.test web.test"
    assert found.split()[-1] == "www.web.test"
    assert run("--dns", config(tmp_path, 'search = ["a b"]'), command="true").code == 125


def test_a_domain_is_asked_of_a_server_of_its_own(run: Runner, world: Lab, tmp_path: Path) -> None:
    """The default server does not exist, so only the domain resolves."""
    text = f"""
    servers = ["192.0.2.253"]
    [[domains]]
    match = ["web.test"]
    servers = ["{world["dns"].address4}"]
    """
    done = run("--dns", config(tmp_path, text), command="getent ahostsv4 www.web.test | head -1")
    assert done.out.count("\n") == 1


def test_a_list_that_changes_is_taken_over_and_one_that_is_gone_is_not(run: Runner, tmp_path: Path) -> None:
    (tmp_path / "ads.txt").write_text("||tracker.test^\n")
    given = config(tmp_path, 'block_lists = ["ads.txt"]\n')
    script = """
    for step in 1 2 3; do
        read line
        getent ahostsv4 tracker.test > /dev/null && echo tracker || echo none
        getent ahostsv4 web.test > /dev/null && echo web || echo none
    done
    """
    with run.popen("--reload", "--dns", given, command=script, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None

        def step() -> list[str]:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return [process.stdout.readline().strip() for _ in range(2)]

        def wait_for(words: str) -> None:
            assert process.stderr is not None
            while words not in process.stderr.readline():
                pass

        assert step() == ["none", "web"]
        (tmp_path / "ads.txt").write_text("||web.test^\n")
        wait_for("the new code has taken over")
        assert step() == ["tracker", "none"]
        (tmp_path / "secure_dns.toml").write_text('block_lists = ["missing.txt"]\n')
        wait_for("the old stays")
        assert step() == ["tracker", "none"]
