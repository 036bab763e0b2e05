"""Makes docs/images/live-*.svg: the live view of a real run in a Lab. usage: .venv/bin/python -m scripts.screenshots"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from towpath.testing import Lab
from towpath.testing.plan import Banner, Dns, Http, Https, LabPlan, UdpEcho

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
TOWPATH = str(Path(sys.executable).with_name("towpath"))
PLAN = (
    LabPlan()
    .host("client")
    .host("registry", serves=[Https(names=("registry.npmjs.org",)), Http(names=("registry.npmjs.org",))])
    .host("github", serves=[Https(names=("github.com", "api.github.com")), Banner(names=("github.com",))])
    .host("telemetry", serves=[Https(names=("telemetry.test",))], delay=0.02)
    .host("time", serves=[UdpEcho(port=123, names=("time.test",))])
    .host("dns", serves=[Dns()])
    .record("big.npmjs.org", "CNAME", "registry.npmjs.org")
)
WORK = """#!/bin/sh
get() { curl -sS -o /dev/null --max-time 5 "$@"; }
build() { get https://registry.npmjs.org/; get https://registry.npmjs.org/headers; get https://telemetry.test/; }
push() { get https://api.github.com/; echo | nc -w1 github.com 22 >/dev/null 2>&1; }
while :; do build; push; sleep 0.3; done &
get --limit-rate 3M http://registry.npmjs.org/big?bytes=90000000 &
echo what time is it | nc -uw1 time.test 123
wait
"""
DRAW = """
import asyncio, sys
from towpath.live.app import LiveApp
from towpath.live.link import attach, runs

async def main(folder):
    app = LiveApp(attach(runs()[0]["pid"]))
    async with app.run_test(size=(156, 30)) as pilot:
        await pilot.pause(4)
        app.save_screenshot("live-flows.svg", folder)
        await pilot.press("slash", *"refused", "enter")
        await pilot.pause(1)
        app.save_screenshot("live-search.svg", folder)

asyncio.run(main(sys.argv[1]))
"""


def main() -> None:
    """Writes the images."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    rules = ["--profile", "npm,github", "--allow", "http://registry.npmjs.org", "--quiet"]
    with tempfile.TemporaryDirectory() as folder, Lab(PLAN) as lab:
        client = lab["client"]
        agent = Path(folder) / "agent"
        agent.write_text(WORK)
        agent.chmod(0o755)
        command = [TOWPATH, "run", *rules, "--", "./agent", "--build", "--push"]
        with client.popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder) as run:
            try:
                while not client.run([TOWPATH, "top", "--list"]).stdout:
                    pass
                drawn = client.run([sys.executable, "-c", DRAW, str(IMAGES)], timeout=60)
                print(drawn.stderr, end="")
            finally:
                run.kill()
    for image in sorted(IMAGES.glob("live-*.svg")):
        print(image, image.stat().st_size)


if __name__ == "__main__":
    main()
