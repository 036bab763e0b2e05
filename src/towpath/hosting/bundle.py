"""Finding an extension and its config from what a user wrote, without importing a line of its code."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

from msgspec import Struct, structs

import towpath
from towpath.errors import ConfigInvalid
from towpath.hosting.manifest import Kind, Manifest, default_manifest, inline_metadata, read_manifest
from towpath.hosting.toml_text import TomlText, read_text

__all__ = ["GROUP", "Bundle", "Known", "find_again", "find_bundle", "find_tunnel", "known_extensions"]

GROUP = "towpath.extensions"
"""The entry-point group by which an installed package announces an extension: `name = "package.module:Class"`."""

_FORMS = "FILE.py, FOLDER or NAME, then :CONFIG.toml if it takes one"
_MOST_CONFIG = 150 << 10
_NAME = re.compile(r"[\w.-]+")
_OPTIONS: dict[Kind, str] = {"content-filter": "--filter", "dns-proxy": "--dns", "packet-tunnel": "--tunnel"}


class Bundle(Struct, frozen=True):
    """An extension that was found: `file` holds its code. Paths are absolute, and no link is on them.

    `folder` is what it may read besides: the whole bundle, or "" for a single file, whose folder is anybody's.

    `config` is what `config_file` says, {} where there is none; a file that is not TOML is its `name` and `text`.
    `class_name` may be unknown until the code is loaded. `given` and `config_given` are the paths by which the code and
    the config were named, links and all: for telling who else may have to keep these links, never for opening.
    """

    manifest: Manifest
    file: str
    folder: str
    class_name: str | None = None
    config_file: str | None = None
    config: dict[str, Any] = {}
    given: str = ""
    config_given: str | None = None
    config_folder: str | None = None

    @property
    def home(self) -> str:
        """The folder that paths in its config are relative to: that in which the config was named."""
        return self.config_folder or os.getcwd()


class Known(NamedTuple):
    """An extension that can be used by its name. `origin` is "shipped", or the distribution that brought it."""

    name: str
    origin: str
    file: str | None
    """`None` when the package that announces it has no such module."""
    class_name: str | None
    version: str


def find_bundle(text: str, where: str = "--filter", kind: Kind | None = None) -> Bundle:
    """What `FILE.py|FOLDER|NAME[:CONFIG.toml]` means; `where` is what a user would look at to correct it.

    A word that is neither a path with "/" nor ends in ".py" is a name first: shipped, then installed, then a folder. A
    colon in the name of a file that exists is part of that name. Raises `ConfigInvalid`, also for an extension that is
    not of the `kind` that is wanted.
    """
    found = _find(text, where)
    _check_kind(found, kind, where)
    return found


def find_again(bundle: Bundle, where: str = "--filter") -> Bundle:
    """The same extension and config as they are by now, from the very files that were found: no link is followed anew.

    Raises `ConfigInvalid`, also where it has become one of another kind.
    """
    own = bundle.manifest
    if bundle.folder:
        found = _from_folder(bundle.folder)
    else:
        announced = None if bundle.class_name == own.class_name else bundle.class_name
        found = _from_file(bundle.file, announced, default_manifest(own.id, own.version, own.kind))
    _check_kind(found, own.kind, where)
    found = structs.replace(found, given=bundle.given)
    if bundle.config_file is None:
        return found
    return _with_config(found, bundle.config_file, bundle.config_given, bundle.config_folder)


def _check_kind(found: Bundle, kind: Kind | None, where: str) -> None:
    if kind is not None and found.manifest.kind != kind:
        given = found.manifest.kind
        raise ConfigInvalid(where, f"{found.manifest.id} is a {given}, not a {kind}", f"use {_OPTIONS[given]}")


def _find(text: str, where: str) -> Bundle:
    target, config_file = _split(text)
    if not target:
        raise ConfigInvalid(where, f"{text!r} names no extension", _FORMS)
    if config_file == "":
        raise ConfigInvalid(where, f"{text!r} names no config after the colon", _FORMS)
    bundle = _named(target, where) if _is_name(target) else None
    if bundle is None:
        if os.path.isdir(target):
            bundle = _from_folder(target)
        elif os.path.isfile(target):
            bundle = _from_file(os.path.abspath(target), None, None)
        else:
            raise _nothing(target, where)
    return bundle if config_file is None else _with_config(bundle, config_file)


def _whole(path: str) -> str:
    """The path from the root on, with its links and dots: `abspath` would take "link/.." for nothing."""
    return path if path.startswith("/") else os.path.join(os.getcwd(), path)


def _with_config(bundle: Bundle, path: str, given: str | None = None, folder: str | None = None) -> Bundle:
    if bundle.manifest.kind == "packet-tunnel" and not path.endswith(".toml"):
        config: dict[str, Any] = {"name": path, "text": _config_text(path)}
    else:
        config = TomlText(_config_text(path), path).document
    return structs.replace(
        bundle,
        config_file=os.path.realpath(path),
        config=config,
        config_given=given or _whole(path),
        config_folder=folder or os.path.realpath(os.path.dirname(path)),
    )


def _config_text(path: str) -> str:
    """A config, which has to fit into one message to the worker. Raises `ConfigInvalid`."""
    text = read_text(path)
    size = len(text.encode())
    if size > _MOST_CONFIG:
        raise ConfigInvalid(path, f"is {size >> 10} KB, and {_MOST_CONFIG >> 10} KB is the most of a config")
    return text


def find_tunnel(text: str, where: str = "--tunnel") -> Bundle:
    """What `--tunnel` means: a wg-quick file by its ending, or an extension as `--filter` names them.

    Raises `ConfigInvalid`; `where` is what its user wrote it behind.
    """
    if text.endswith(".conf") and ":" not in text:
        if not os.path.isfile(text):
            reason = f"{text} is no file" if os.path.exists(text) else f"there is no file {text}"
            raise ConfigInvalid(where, reason, "a wg-quick file, as a provider of WireGuard gives it")
        text = f"wireguard:{text}"
    elif ":" not in text and os.path.isfile(text) and not text.endswith(".py"):
        hint = "a wg-quick file's name ends in .conf, a script's in .py"
        if text.endswith(".ovpn"):
            hint = "OpenVPN is not spoken here: ask for a file of WireGuard, whose name ends in .conf"
        raise ConfigInvalid(where, f"{text} is no file of a tunnel that is known", hint)
    elif os.path.isfile(f"{text}.conf"):
        raise ConfigInvalid(where, f"there is no extension {text!r}", f"is it {text}.conf?")
    elif _is_name(text) and os.path.exists(f"/etc/wireguard/{text}.conf"):
        raise ConfigInvalid(where, f"there is no extension {text!r}", f"is it /etc/wireguard/{text}.conf?")
    return find_bundle(text, where, "packet-tunnel")


def known_extensions() -> list[Known]:
    """What can be used by name, shipped before installed, each sorted by name."""
    return _shipped() + _installed()


def _shipped() -> list[Known]:
    folder = os.path.join(os.path.dirname(os.path.abspath(towpath.__file__)), "extensions")
    modules = [name[:-3] for name in os.listdir(folder) if name.endswith(".py") and not name.startswith("_")]
    found = [(name, f"{name}.py") for name in modules]
    found += [
        (name, f"{name}/provider.py")
        for name in os.listdir(folder)
        if os.path.isfile(os.path.join(folder, name, "provider.py"))
    ]
    return [
        Known(name.replace("_", "-"), "shipped", os.path.join(folder, file), None, towpath.__version__)
        for name, file in sorted(found)
    ]


def _installed() -> list[Known]:
    from importlib.metadata import entry_points

    found = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        origin, version = (entry.dist.name, entry.dist.version) if entry.dist else ("installed", "0")
        found.append(Known(entry.name, origin, _module_file(entry.module), entry.attr or None, version))
    return found


def _split(text: str) -> tuple[str, str | None]:
    """The target and the config file: at the last colon, unless only another leaves a target that exists."""
    if os.path.exists(text):
        return text, None
    places = [at for at, letter in enumerate(text) if letter == ":"]
    for at in reversed(places):
        if os.path.exists(text[:at]):
            return text[:at], text[at + 1 :]
    return (text[: places[-1]], text[places[-1] + 1 :]) if places else (text, None)


def _is_name(target: str) -> bool:
    return not target.endswith(".py") and _NAME.fullmatch(target) is not None


def _named(name: str, where: str) -> Bundle | None:
    # Those installed are looked for last, and only then: that reads the metadata of every distribution.
    for found in (_shipped, _installed):
        for known in found():
            if known.name in (name, name.replace("_", "-")):
                if known.file is None:
                    raise ConfigInvalid(where, f"{name} is announced by {known.origin}, which has no such module")
                return _from_file(known.file, known.class_name, default_manifest(name, known.version))
    return None


def _nothing(target: str, where: str) -> ConfigInvalid:
    if not _is_name(target):
        reason = f"there is no {target}" if not os.path.exists(target) else f"{target} is neither a file nor a folder"
        return ConfigInvalid(where, reason, _FORMS)
    import difflib

    names = [known.name for known in known_extensions()]
    close = difflib.get_close_matches(target, names, 1)
    hint = f"is it {close[0]}?" if close else f"known: {', '.join(names)}; a file ends in .py, a folder has a '/'"
    return ConfigInvalid(where, f"there is no extension {target!r}", hint)


def _from_file(path: str, class_name: str | None, default: Manifest | None) -> Bundle:
    if not path.endswith(".py"):
        raise ConfigInvalid(path, "a file is an extension when it ends in .py", _FORMS)
    source = read_text(path)
    default = default or default_manifest(os.path.basename(path)[:-3], kind=_kind_in(source))
    inline = inline_metadata(source, path)
    manifest = read_manifest(TomlText(inline.text, path, inline.line)) if inline else None
    manifest = manifest or default
    if manifest.class_name and ":" in manifest.class_name:
        raise ConfigInvalid(
            path, f"class is {manifest.class_name!r}, and this file is the module", "give the class alone"
        )
    return Bundle(manifest, os.path.realpath(path), "", class_name or manifest.class_name, given=_whole(path))


def _kind_in(source: str) -> Kind:
    """What a file without a manifest seems to be, by the class that it builds upon."""
    bases: dict[str, Kind] = {"DNSProxyProvider": "dns-proxy", "PacketTunnelProvider": "packet-tunnel"}
    if "ContentFilterProvider" in source:
        return "content-filter"
    return next((kind for base, kind in bases.items() if base in source), "content-filter")


def _from_folder(folder: str) -> Bundle:
    project = os.path.join(folder, "pyproject.toml")
    manifest = read_manifest(TomlText(read_text(project), project)) if os.path.exists(project) else None
    if manifest is None:
        what = "has no [tool.towpath.extension]" if os.path.exists(project) else "does not exist"
        raise ConfigInvalid(project, what, "towpath extension new writes one, or name the .py file itself")
    module, _, class_name = (manifest.class_name or "").rpartition(":")
    files = _candidates(folder, module or manifest.id.replace("-", "_"))
    if not files and not module:
        files = [
            os.path.join(folder, name)
            for name in sorted(os.listdir(folder))
            if name.endswith(".py") and not name.startswith(("test_", "conftest.", "setup."))
        ]
    if len(files) != 1:
        said = ", ".join(os.path.basename(file) for file in files) or f"no {module or 'Python file'}"
        raise ConfigInvalid(project, f"which module is it? There is {said}", 'class = "module:Class"')
    whole = os.path.realpath(folder)
    file = os.path.join(whole, os.path.relpath(files[0], folder))
    return Bundle(manifest, file, whole, class_name or None, given=_whole(folder))


def _candidates(folder: str, module: str) -> list[str]:
    """The file of a module in a folder, or in its `src`."""
    path = module.replace(".", os.sep)
    tried = [os.path.join(folder, place, path + end) for place in ("", "src") for end in (".py", "/__init__.py")]
    return [file for file in tried if os.path.isfile(file)][:1]


def _module_file(module: str) -> str | None:
    """Where a module's source is. `importlib.util.find_spec` would import the packages around it."""
    from importlib.machinery import PathFinder

    places: list[str] | None = None
    origin = None
    name = ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, places)
        if spec is None:
            return None
        origin = spec.origin
        places = list(spec.submodule_search_locations or ())
    return origin if origin and origin.endswith(".py") else None
