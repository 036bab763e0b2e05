"""Runs a command on another kernel: ``python -m tests.support.guest COMMAND ...``.

An emulated machine (QEMU, which asks nothing of the processor) boots the kernel that `scripts/guest-kernel.sh` has
unpacked, on this machine's files, which it can read and not write; /tmp and /run are its own. The command runs as
root in this folder; what it writes is shown, and its exit code is ours.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__: list[str] = []

ROOT = Path(__file__).resolve().parents[2]
_UNPACKED = ROOT / ".cache" / "guest"
_FILES = "/usr/lib/qemu/virtiofsd"
_MEGABYTES = 1024
_MODULES = ("net", "crypto", "lib", "arch", "fs/fuse", "drivers/virtio", "drivers/net")
_ENDED = "guest: the command has ended with "
_INIT = """#!/bin/sh
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
modprobe virtio_pci
modprobe virtiofs
mount -t virtiofs -o ro root /root || poweroff -f
for name in proc sys dev; do mount --rbind /$name /root/$name; done
mkdir -p /dev/shm /dev/pts
mount -t tmpfs none /dev/shm
mount -t devpts none /dev/pts
mount -t tmpfs none /root/tmp
mount -t tmpfs none /root/run
ip link set lo up
modprobe tun
mknod -m 666 /dev/net/tun c 10 200 2>/dev/null
cp /command /root/tmp/command
cd /root
mount --move . /
chroot . /bin/sh /tmp/command
echo "ENDED$?"
poweroff -f
"""


def _pack(folder: Path, command: str) -> Path:
    """The first files: busybox, the kernel's modules, and what is to be done."""
    (version,) = (path.name for path in (_UNPACKED / "lib" / "modules").iterdir())
    files = folder / "files"
    for name in ("bin", "sbin", "proc", "sys", "dev", "root", "lib/modules"):
        (files / name).mkdir(parents=True, exist_ok=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, files / "bin" / "busybox")
    for name in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        for place in ("bin", "sbin"):
            if name != "busybox":
                (files / place / name).symlink_to("/bin/busybox")
    there = files / "lib" / "modules" / version
    for name in _MODULES:
        shutil.copytree(_UNPACKED / "lib" / "modules" / version / "kernel" / name, there / "kernel" / name)
    for name in ("modules.order", "modules.builtin"):
        shutil.copy(_UNPACKED / "lib" / "modules" / version / name, there)
    subprocess.run([busybox, "depmod", "-b", str(files), version], check=True)
    init = files / "init"
    init.write_text(_INIT.replace("ENDED", _ENDED))
    (files / "command").write_text(f"{command}\n")
    init.chmod(0o755)
    packed = folder / "files.cpio"
    with packed.open("wb") as file:
        names = subprocess.run(["find", "."], cwd=files, capture_output=True, check=True).stdout
        subprocess.run([busybox, "cpio", "-o", "-H", "newc"], cwd=files, input=names, stdout=file, check=True)
    return packed


def main() -> int:
    absent = [name for name in ("qemu-system-x86_64", "busybox", _FILES) if shutil.which(name) is None]
    if absent or not _UNPACKED.is_dir():
        raise SystemExit(
            f"guest: {', '.join(absent) or _UNPACKED} is missing (apt install qemu-system-x86; make guest)"
        )
    words = shlex.join(
        [
            "env",
            "PYTHONDONTWRITEBYTECODE=1",
            "HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis",
            f"PATH={os.environ['PATH']}",
            *sys.argv[1:],
        ]
    )
    command = f"cd {shlex.quote(str(ROOT))} && exec {words}"
    with tempfile.TemporaryDirectory(prefix="towpath-guest-") as name:
        folder = Path(name)
        packed = _pack(folder, command)
        (kernel,) = (_UNPACKED / "boot").glob("vmlinuz-*")
        shared = folder / "files.socket"
        served = [_FILES, f"--socket-path={shared}", "-o", "source=/", "-o", "sandbox=chroot"]
        with subprocess.Popen([*served, "-o", "cache=always"], stderr=subprocess.DEVNULL) as files:
            try:
                while not shared.exists():
                    if files.poll() is not None:
                        raise SystemExit("virtiofsd has ended")
                return _boot(kernel, packed, shared)
            finally:
                files.terminate()


def _boot(kernel: Path, packed: Path, shared: Path) -> int:
    words = ["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", str(_MEGABYTES)]
    words += ["-nographic", "-no-reboot", "-nic", "none", "-kernel", str(kernel), "-initrd", str(packed)]
    words += ["-append", "console=ttyS0 quiet panic=-1"]
    words += ["-object", f"memory-backend-memfd,id=memory,size={_MEGABYTES}M,share=on", "-numa", "node,memdev=memory"]
    words += ["-chardev", f"socket,id=files,path={shared}", "-device", "vhost-user-fs-pci,chardev=files,tag=root"]
    code = 125
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, errors="replace"
    ) as guest:
        assert guest.stdout is not None
        for line in guest.stdout:
            if line.startswith(_ENDED):
                code = int(line.removeprefix(_ENDED))
                continue
            sys.stdout.write(line)
            sys.stdout.flush()
    return code


if __name__ == "__main__":
    sys.exit(main())
