"""Loading an author's code: only ever inside of a worker, a harness or a check, never in who manages them."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any

import msgspec

from towpath.errors import ConfigInvalid, TowpathError
from towpath.hosting.hooks import check_hooks, hooks_of, line_of
from towpath.hosting.toml_text import dotted, fault_of, read_text
from towpath.providers import provider as base
from towpath.providers.content_filter import ContentFilterProvider
from towpath.providers.dns_proxy import DNSProxyProvider
from towpath.providers.packet_tunnel import PacketTunnelProvider

__all__ = ["check_syntax", "configured", "find_class", "load_class", "load_provider", "read_config"]

Provider = base.Provider[Any]

_BASES = (ContentFilterProvider, DNSProxyProvider, PacketTunnelProvider)


def load_provider(file: str, class_name: str | None, config: dict[str, Any], config_where: str) -> Provider:
    """Imports `file`, finds its provider, checks its hooks and makes one with its config, not attached yet.

    `class_name` may be `None` when the file defines a single provider. Every mistake of the author's or of who wrote
    the config is a `ConfigInvalid`: `where` is ``FILE:LINE``, or `config_where` for the config.
    """
    return configured(load_class(file, class_name), config, config_where, file)


def load_class(file: str, class_name: str | None) -> type[Provider]:
    """The same without a config: the class, its hooks checked."""
    check_syntax(file)
    provider_class = find_class(_import(file), class_name, file)
    check_hooks(provider_class, file)
    return provider_class


def check_syntax(file: str) -> None:
    """Compiles a file without running it. Raises `ConfigInvalid` with the line of a mistake."""
    source = read_text(file)
    try:
        compile(source, file, "exec", dont_inherit=True)
    except SyntaxError as error:
        text = (error.text or "").strip()
        raise ConfigInvalid(f"{file}:{error.lineno or 1}", f"this is not Python: {error.msg}", text or None) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigInvalid(file, f"this is not Python: {error}") from None


def find_class(module: ModuleType, class_name: str | None, file: str) -> type[Provider]:
    """The provider that a module defines, or the one of this name. Raises `ConfigInvalid`."""
    defined = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, _BASES) and value.__module__ == module.__name__
    ]
    if class_name is not None:
        named = getattr(module, class_name, None)
        if not (isinstance(named, type) and issubclass(named, _BASES)):
            what = "is no provider" if named is not None else "does not exist"
            known = ", ".join(one.__name__ for one in defined) or "none"
            raise ConfigInvalid(file, f"class {class_name} {what}", f"providers in this file: {known}")
        return named
    # A class that others in the file build upon is theirs to share, not the one to run.
    last = [one for one in defined if not any(other is not one and issubclass(other, one) for other in defined)]
    if not last:
        raise ConfigInvalid(file, "there is no provider in it", "class MyFilter(ContentFilterProvider): ...")
    if len(last) > 1:
        names = ", ".join(one.__name__ for one in last)
        hint = f'name one in the manifest: class = "{last[0].__name__}"'
        raise ConfigInvalid(line_of(last[1], file), f"several providers, and none is named: {names}", hint)
    return last[0]


def configured(provider_class: type[Provider], config: object, config_where: str, file: str) -> Provider:
    """Checks the hooks and makes a provider with `config`: a table that fits its type, or a value of that type."""
    check_hooks(provider_class, file)
    made = read_config(provider_class, config, config_where, file)
    try:
        provider = provider_class()
    except Exception as error:
        raise _thrown(error, file, f"{provider_class.__name__} cannot be made") from error
    provider.config = made
    return provider


def read_config(provider_class: type[Provider], config: object, where: str, file: str) -> Any:
    """`config` as the type that the class names. Raises `ConfigInvalid` naming the key."""
    to = provider_class.config_type
    if to is None:
        if config:
            kind = hooks_of(provider_class)[0].__name__
            hint = f"class {provider_class.__name__}({kind}[Config]) would take one"
            raise ConfigInvalid(where, f"{provider_class.__name__} takes no config", hint)
        return None
    if isinstance(config, to):
        return config
    _known_keys(config, to, where)
    try:
        return msgspec.convert({} if config is None else config, to)
    except msgspec.ValidationError as error:
        reason, path = fault_of(error)
        raise ConfigInvalid(where, f"{dotted(path)}{reason}", None) from None
    except (TypeError, NameError) as error:
        raise ConfigInvalid(line_of(to, file), f"{to.__name__} cannot be a config: {error}") from error


def _known_keys(config: object, to: type[Any], where: str) -> None:
    """An unknown key is a misspelt one; msgspec would ignore it in a dataclass and in most structs."""
    known = [field.name for field in dataclass_fields(to)] if is_dataclass(to) else to.__struct_encode_fields__
    for key in config if isinstance(config, dict) else ():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"is it {close[0]}?" if close else f"known here: {', '.join(known) or 'none'}"
            raise ConfigInvalid(where, f"unknown key {key!r}", hint)


def _import(file: str) -> ModuleType:
    """A module in a package is imported by its full name, any other under one that shadows nobody's."""
    folder, name = os.path.split(os.path.abspath(file))
    parts = [] if name == "__init__.py" else [name[:-3]]
    inside = os.path.exists(os.path.join(folder, "__init__.py"))
    while os.path.exists(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    if folder not in sys.path:
        # Last, so that a file of the author's never takes the place of a module that others need.
        sys.path.append(folder)
    try:
        if inside:
            return importlib.import_module(".".join(parts))
        spec = importlib.util.spec_from_file_location(f"_extension_{parts[0]}", file)
        if spec is None or spec.loader is None:
            raise ImportError("its name does not end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        raise _thrown(error, file, "it cannot be imported") from error


def _thrown(error: BaseException, file: str, what: str) -> ConfigInvalid:
    """Points at the innermost line of the author's file, however deep in others' code it went wrong."""
    where = file
    for frame in traceback.extract_tb(error.__traceback__):
        if os.path.abspath(frame.filename) == os.path.abspath(file):
            where = f"{file}:{frame.lineno}"
    hint = error.hint if isinstance(error, TowpathError) else None
    if isinstance(error, ModuleNotFoundError):
        hint = f"install it for {sys.executable}, or put {error.name}.py beside the file"
    words = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ConfigInvalid(where, f"{what}: {words}", hint)
