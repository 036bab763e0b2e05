"""The command cannot watch its own run, nor allow itself anything: the socket is in another network namespace."""

from __future__ import annotations

from tests.support.rootless_lab import RootlessLab

TRY = r"""
import json, os, re, socket, sys
names = set(re.findall(r"@(towpath-run/\S+)", open("/proc/net/unix").read()))
print("listed", sorted(names))
# The names of the host's table, as somebody outside could have told them.
for name in sys.argv[1:]:
    s = socket.socket(socket.AF_UNIX)
    try:
        s.connect("\0" + name)
        s.sendall(json.dumps({"do": "allow", "rule": "tracker.test:80"}).encode() + b"\n")
        print("connected")
    except OSError as error:
        print("refused", error.errno)
    s.close()
for pid in [name for name in os.listdir("/proc") if name.isdigit()]:
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            if "socket" in os.readlink(f"/proc/{pid}/fd/{number}") and pid != str(os.getpid()):
                print("a socket of", pid)
    except OSError:
        pass
"""


def test_the_socket_of_the_live_view_is_not_there_for_the_command(lab: RootlessLab) -> None:
    user = lab.user
    script, go = user.home / "attempt.py", user.home / "go"
    script.write_text(TRY)
    go.unlink(missing_ok=True)
    # The run is started, its name read outside, and handed to the command: knowing it is of no use.
    inside = f"while [ ! -e {go} ]; do sleep 0.02; done; {user.python} {script} $(cat {go}); "
    inside += f"{user.towpath} top --list; curl -sS --max-time 3 -o /dev/null http://tracker.test/ 2>/dev/null; echo $?"
    outside = (
        f"{user.towpath} run --allow web.test:80 -- sh -c '{inside}' & "
        "while ! grep -q @towpath-run/ /proc/net/unix; do sleep 0.02; done; "
        f"grep -o 'towpath-run/.*' /proc/net/unix | head -1 > {go}.new; {user.towpath} top --list >&2; "
        f"mv {go}.new {go}; wait"
    )
    done = lab.on_client(["sh", "-c", outside])
    go.unlink()
    lines = done.out.splitlines()
    assert lines == ["listed []", "refused 111", "6"], (done.out, done.err)
    assert " sh -c while" in done.err  # outside, the run was listed
    assert "no run of yours is under way" in done.err  # inside, none was
