"""What registries, mirrors and git hosts serve, as plain files in folders: one small package of each kind."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

__all__ = ["apt", "cargo_crates", "cargo_index", "git", "go", "npm", "pip_files", "pip_index"]


def _write(file: Path, data: str | bytes) -> bytes:
    file.parent.mkdir(parents=True, exist_ok=True)
    data = data.encode() if isinstance(data, str) else data
    file.write_bytes(data)
    return data


def _tar(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def _zip(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


def _wheel() -> bytes:
    info = "demo_package-1.0.dist-info"
    return _zip(
        {
            "demo_package.py": "x = 1\n",
            f"{info}/METADATA": "Metadata-Version: 2.1\nName: demo-package\nVersion: 1.0\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": "",
        }
    )


_WHEEL = "demo_package-1.0-py3-none-any.whl"


def pip_files(folder: Path) -> None:
    """files.pythonhosted.org."""
    _write(folder / "packages" / _WHEEL, _wheel())


def pip_index(folder: Path) -> None:
    """pypi.org."""
    digest = hashlib.sha256(_wheel()).hexdigest()
    link = f"https://files.pythonhosted.org/packages/{_WHEEL}#sha256={digest}"
    _write(folder / "simple/demo-package/index.html", f'<!doctype html><a href="{link}">{_WHEEL}</a>')


def npm(folder: Path) -> None:
    """registry.npmjs.org, with a package and one in a scope."""
    for name in ("demo-package", "@scope/demo"):
        short = name.rpartition("/")[2]
        archive = _tar({"package/package.json": json.dumps({"name": name, "version": "1.0.0"})})
        _write(folder / f"tarballs/{short}-1.0.0.tgz", archive)
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()
        tarball = f"https://registry.npmjs.org/tarballs/{short}-1.0.0.tgz"
        version = {"name": name, "version": "1.0.0", "dist": {"tarball": tarball, "integrity": integrity}}
        packument = {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
        _write(folder / name, json.dumps(packument))


def _crate() -> bytes:
    manifest = '[package]\nname = "demo-crate"\nversion = "1.0.0"\nedition = "2021"\n'
    return _tar({"demo-crate-1.0.0/Cargo.toml": manifest, "demo-crate-1.0.0/src/lib.rs": ""})


def cargo_index(folder: Path) -> None:
    """index.crates.io."""
    _write(folder / "config.json", '{"dl": "https://static.crates.io/crates", "api": "https://crates.io"}')
    line = {"name": "demo-crate", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False}
    line["cksum"] = hashlib.sha256(_crate()).hexdigest()
    _write(folder / "de/mo/demo-crate", json.dumps(line) + "\n")


def cargo_crates(folder: Path) -> None:
    """static.crates.io."""
    _write(folder / "crates/demo-crate/1.0.0/download", _crate())


def go(folder: Path) -> None:
    """proxy.golang.org, with the module lab.test/demo."""
    module = "module lab.test/demo\n\ngo 1.18\n"
    at = folder / "lab.test/demo/@v"
    _write(at / "list", "v1.0.0\n")
    _write(at / "v1.0.0.info", '{"Version": "v1.0.0", "Time": "2024-01-01T00:00:00Z"}')
    _write(at / "v1.0.0.mod", module)
    prefix = "lab.test/demo@v1.0.0"
    _write(at / "v1.0.0.zip", _zip({f"{prefix}/go.mod": module, f"{prefix}/demo.go": "package demo\n"}))


def git(folder: Path, name: str) -> None:
    """A repository for git's plain (dumb) protocol; the same folder serves git over ssh."""
    work, bare = folder / ".work", folder / name
    commands = (
        ["git", "init", "-q", "-b", "main", str(work)],
        ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@lab.test", "commit", "-q", "--allow-empty"]
        + ["-m", "First"],
        ["git", "clone", "-q", "--bare", str(work), str(bare)],
        ["git", "-C", str(bare), "update-server-info"],
    )
    for command in commands:
        subprocess.run(command, check=True)


def apt(folder: Path) -> None:
    """A Debian mirror with the binary and the source package demo, unsigned."""
    _demo(folder)
    pool = "pool/main/d/demo"
    packages = _described(
        ["dpkg-deb", "-f", str(folder / pool / "demo_1.0_all.deb")], folder, f"{pool}/demo_1.0_all.deb"
    )
    archive, dsc = folder / pool / "demo_1.0.tar.xz", folder / pool / "demo_1.0.dsc"
    lines = "".join(
        f" {hashlib.sha256(f.read_bytes()).hexdigest()} {f.stat().st_size} {f.name}\n" for f in (dsc, archive)
    )
    fields = "Package: demo\nBinary: demo\nVersion: 1.0\nArchitecture: all\nFormat: 3.0 (native)\n"
    sources = f"{fields}Directory: {pool}\nChecksums-Sha256:\n{lines}"
    indexes = {"main/binary-amd64/Packages": packages, "main/source/Sources": sources}
    sums = ""
    for name, text in indexes.items():
        data = _write(folder / "dists/stable" / name, text)
        sums += f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n"
    head = "Origin: Lab\nSuite: stable\nCodename: stable\nArchitectures: amd64\nComponents: main\n"
    _write(folder / "dists/stable/Release", f"{head}Date: Mon, 01 Jan 2024 00:00:00 UTC\nSHA256:\n{sums}")


def _described(command: list[str], folder: Path, name: str) -> str:
    fields = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    data = (folder / name).read_bytes()
    return f"{fields}Filename: {name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"


def _demo(folder: Path) -> None:
    pool = folder / "pool/main/d/demo"
    pool.mkdir(parents=True)
    control = "Package: demo\nVersion: 1.0\nArchitecture: all\nMaintainer: Lab <lab@lab.test>\nDescription: demo\n"
    _write(folder / ".deb/DEBIAN/control", control)
    built = ["dpkg-deb", "--root-owner-group", "-b", str(folder / ".deb"), str(pool / "demo_1.0_all.deb")]
    subprocess.run(built, check=True, capture_output=True)
    source = folder / ".source/demo-1.0"
    _write(
        source / "debian/control",
        "Source: demo\nMaintainer: Lab <lab@lab.test>\nStandards-Version: 4.6.2\n\nPackage: demo\nArchitecture: all\n"
        "Description: demo\n",
    )
    changed = (
        "demo (1.0) stable; urgency=low\n\n  * First.\n\n -- Lab <lab@lab.test>  Mon, 01 Jan 2024 00:00:00 +0000\n"
    )
    _write(source / "debian/changelog", changed)
    _write(source / "debian/source/format", "3.0 (native)\n")
    subprocess.run(["dpkg-source", "-b", str(source)], cwd=pool, check=True, capture_output=True)
