"""The mount namespace of a confined command: a /proc of its own, no set-user-ID, no way to the host's Unix sockets.

mount(2), mount_setattr(2), unix(7). Pathname sockets are not cut off by a network namespace, so every one that the
caller's namespace knows is covered, and so are the folders in which new ones appear.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from towpath.errors import HostFault
from towpath.linux import libc

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 8, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100
_ATTR_RDONLY, _ATTR_NOSUID = 1, 2
_SO_ACCEPTCON = 0x10000
_AT_SYMLINK_NOFOLLOW = 0x100
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC, _MOVE_MOUNT_F_EMPTY_PATH = 1, os.O_CLOEXEC, 4
_MOST_LINKS = 40

_SOCKET_FOLDERS = ("/run/user", "/run/dbus", "/run/systemd", "/run/nscd", "/tmp/.X11-unix", "/tmp/.ICE-unix")


def listening_unix_sockets(table: str = "/proc/net/unix") -> list[str]:
    """The pathnames in the caller's table of Unix sockets, each once, and all other sockets in their folders.

    The table tells the name of the time of binding; servers rename their sockets into place.
    """
    found = set()
    with open(table, "rb") as file:
        lines = file.read().split(b"\n")
    for line in lines[1:]:
        fields = line.split(b" ", 6)
        _number, _, path = fields[-1].lstrip(b" ").partition(b" ") if len(fields) == 7 else (b"", b"", b"")
        if path.startswith(b"/"):
            found.add(os.fsdecode(path))
    for folder in {os.path.dirname(path) for path in found}:
        found.update(_sockets_in(folder))
    return sorted(found)


def _sockets_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            odd = [entry for entry in entries if not (entry.is_symlink() or entry.is_file() or entry.is_dir())]
            return [entry.path for entry in odd if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)]
    except OSError:
        return []


def socket_folders() -> list[str]:
    """Folders in which servers of the host put their sockets, now or later."""
    labs = f"towpath-{os.getuid()}"
    try:
        found = os.listdir("/tmp")
        terminals = [f"/tmp/{name}" for name in found if name == labs or name.startswith(("tmux-", "ssh-"))]
    except OSError:
        terminals = []
    return [*_SOCKET_FOLDERS, *terminals]


def _set_attributes(path: str, flags: int) -> None:
    attributes = struct.pack("=QQQQ", flags, 0, 0, 0)
    libc.syscall("mount_setattr", _AT_FDCWD, os.fsencode(path), _AT_RECURSIVE, attributes, len(attributes))


def separate() -> None:
    """Cuts this mount namespace off from the caller's and takes set-user-ID and file capabilities out of it.

    With no file capabilities left, a program that carries some (ping) runs without them, instead of not at all.
    """
    libc.mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    try:
        _set_attributes("/", _ATTR_NOSUID)
    except HostFault as fault:
        if fault.errno not in (errno.ENOSYS, errno.EINVAL):
            raise


def own_proc() -> bool:
    """Mounts a /proc of this process namespace; `False` where the system masks its own, and it is kept instead.

    The /proc that is kept shows processes outside; their memory and environment stay closed, because they live in
    another user namespace.
    """
    try:
        libc.mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    except HostFault as fault:
        if fault.errno != errno.EPERM:
            raise
        return False
    return True


def close_system_settings() -> None:
    """Makes /proc/sys and /sys read-only: uid 0 owns their files and needs no capability to write them."""
    libc.mount("/proc/sys", "/proc/sys", None, _MS_BIND)
    _set_attributes("/proc/sys", _ATTR_RDONLY)
    for path in ("/proc/sysrq-trigger", "/proc/irq", "/proc/bus"):
        if os.path.exists(path):
            libc.mount(path, path, None, _MS_BIND)
            _set_attributes(path, _ATTR_RDONLY)
    _set_attributes("/sys", _ATTR_RDONLY)


def close_control_groups(table: str = "/proc/self/mountinfo") -> None:
    """Makes every cgroup hierarchy read-only: who may write one can freeze and kill processes outside by it."""
    with open(table, encoding="utf-8", errors="surrogateescape") as lines:
        fields = [line.split() for line in lines]
    for line in fields:
        if line[line.index("-") + 1] in ("cgroup", "cgroup2"):
            _set_attributes(_unescaped(line[4]), _ATTR_RDONLY)


def _unescaped(path: str) -> str:
    """A path of mountinfo, where blanks and backslashes are octal (proc(5))."""
    for written, meant in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(written, meant)
    return path


def mask_sockets(paths: list[str], folders: list[str], keep: list[str]) -> list[str]:
    """Covers the socket files `paths` and the `folders`; the sockets in `keep` stay reachable.

    Gives the folders that were covered: new files in them are in memory and never the host's.
    """
    _pin_ancestors([path for path in paths if not path.startswith(tuple(f"{folder}/" for folder in folders))])
    kept = {os.path.realpath(path): os.open(path, os.O_PATH | os.O_CLOEXEC) for path in keep}
    covered = []
    for folder in folders:
        if os.path.isdir(folder) and not os.path.islink(folder):
            libc.mount("tmpfs", folder, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=64k")
            covered.append(folder)
    for path in paths:
        if _within(path, covered) or os.path.realpath(path) in kept:
            continue
        try:
            if stat.S_ISSOCK(os.stat(path).st_mode):
                libc.mount("/dev/null", path, None, _MS_BIND)
        except OSError as fault:
            if fault.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise  # what cannot be reached to be covered cannot be connected to either
    for path, descriptor in kept.items():
        if _within(path, covered):
            _make_file(path)
            libc.mount(f"/proc/self/fd/{descriptor}", path, None, _MS_BIND)
        os.close(descriptor)
    return covered


def hide_files(paths: list[str]) -> None:
    """Lets these files be empty for all in this namespace, and nothing be put in their places."""
    _pin_ancestors(paths)
    _pin_links(paths)
    for target in dict.fromkeys(os.path.realpath(path) for path in paths):
        libc.mount("/dev/null", target, None, _MS_BIND)


def make_read_only(paths: list[str]) -> None:
    """Lets nothing in this namespace change these files and folders, nor put others in their places."""
    _pin_ancestors(paths)
    for target in dict.fromkeys(os.path.realpath(path) for path in paths):
        if os.path.exists(target):
            libc.mount(target, target, None, _MS_BIND | _MS_REC)
            _set_attributes(target, _ATTR_RDONLY)
    _pin_links(paths)


def links_on(path: str) -> list[str]:
    """The symbolic links by which an absolute path leads where it leads, each by the path that no link is on."""
    found: list[str] = []
    at, names = "/", path.split("/")[::-1]
    while names and len(found) < _MOST_LINKS:
        name = names.pop()
        if name == "..":
            at = os.path.dirname(at)
        elif name not in ("", "."):
            whole = os.path.join(at, name)
            try:
                target = os.readlink(whole)
            except OSError:
                at = whole
                continue
            found.append(whole)
            at = "/" if target.startswith("/") else at
            names += target.split("/")[::-1]
    return found


def _pin_links(paths: list[str]) -> None:
    """Makes every link on the way of `paths` that this user could replace a mount point, which cannot be removed.

    Only the newer system calls mount on a link, instead of where it leads.
    """
    links = {link for path in paths for link in links_on(path) if os.access(os.path.dirname(link), os.W_OK)}
    _pin_folders({os.path.dirname(link) for link in links})
    for link in sorted(links):
        name = os.fsencode(link)
        try:
            flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_SYMLINK_NOFOLLOW
            tree = libc.syscall("open_tree", _AT_FDCWD, name, flags)
            try:
                libc.syscall("move_mount", tree, b"", _AT_FDCWD, name, _MOVE_MOUNT_F_EMPTY_PATH)
            finally:
                os.close(tree)
        except HostFault:
            continue  # no kernel has to mount on links; what it leads to is kept all the same


def _pin_ancestors(paths: list[str]) -> None:
    """Makes every folder above `paths` that this user could rename a mount point, which cannot be renamed.

    A cover lies on a path within a mount. Were a folder above it moved to where another mount shows it, the socket
    would be seen there uncovered; and what one run moved away, the next would not find to cover.
    """
    _pin_folders({os.path.dirname(os.path.realpath(path)) for path in paths})


def _pin_folders(lowest: set[str]) -> None:
    folders = set()
    for folder in lowest:
        while folder not in ("/", "") and folder not in folders:
            if os.access(os.path.dirname(folder), os.W_OK):
                folders.add(folder)
            folder = os.path.dirname(folder)
    for folder in sorted(folders):
        try:
            libc.mount(folder, folder, None, _MS_BIND | _MS_REC)
        except HostFault as fault:
            if fault.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
                raise


def _within(path: str, folders: list[str]) -> bool:
    return any(path.startswith(folder + "/") for folder in folders)


def _make_file(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def own_runtime_folder(path: str) -> None:
    """An empty folder of the user's where the covered /run/user held one (XDG Base Directory Specification)."""
    os.makedirs(path, mode=0o700, exist_ok=True)


def cover_file(path: str, content: bytes, covered: list[str]) -> None:
    """Puts `content` in the place of the file that `path` leads to, which is made only inside `covered` folders."""
    target = os.path.realpath(path)
    if not os.path.exists(target):
        if not _within(target, covered):
            return  # programs without a resolv.conf ask 127.0.0.1, which is answered too
        _make_file(target)
    # A file in memory can be bound only from a mount of this namespace, so it lives in one for a moment.
    libc.mount("tmpfs", "/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "mode=755,size=64k")
    try:
        with open("/tmp/file", "wb") as file:
            file.write(content)
        os.chmod("/tmp/file", 0o644)
        libc.mount("/tmp/file", target, None, _MS_BIND)
    finally:
        libc.unmount("/tmp", _MNT_DETACH)
