"""`towpath dns top`: names, askers, refusals and servers of a run, told by the run itself."""

from __future__ import annotations

import json
import subprocess

from tests.support.running import TOWPATH, Runner

from towpath.cli.dns_top import table


def test_the_names_of_a_run_are_shown_while_it_runs(run: Runner) -> None:
    asking = "for i in 1 2 3; do getent ahostsv4 web.test; getent ahostsv4 tracker.test; done"
    script = f"echo started; read line; {asking}; read line"
    with run.popen("--allow", "web.test:80", command=script, stdin=-1, stdout=-1, stderr=-1) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        words = [TOWPATH, "dns", "top", "--json"]
        with run.host.popen(words, stdout=subprocess.PIPE, text=True) as top:
            assert top.stdout is not None
            assert json.loads(top.stdout.readline())["asked"] == 0
            process.stdin.write("\n")
            process.stdin.flush()
            for line in top.stdout:
                report = json.loads(line)
                names = {one["name"]: one for one in report["names"]}
                if (
                    names.get("web.test", {}).get("asked", 0) >= 3
                    and names.get("tracker.test", {}).get("asked", 0) >= 3
                ):
                    break
            top.terminate()
    assert names["web.test"]["programs"] == ["getent"]
    assert names["web.test"]["cached"] >= 2
    assert names["tracker.test"]["refused"] == names["tracker.test"]["asked"]
    assert report["servers"][0]["answers"] >= 1
    assert report["kept"] >= 1
    assert table(report)


def test_without_a_run_there_is_nothing_to_show(run: Runner) -> None:
    done = run.host.run([TOWPATH, "dns", "top", "999999", "--json"])
    assert done.returncode == 125
    assert "no run of yours" in done.stderr
