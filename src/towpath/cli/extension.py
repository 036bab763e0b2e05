"""`towpath extension`: begin, check and list filters."""

from __future__ import annotations

import argparse
import json
import sys

from towpath.errors import ConfigInvalid

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath extension new no-ads                  writes no_ads.py and test_no_ads.py
  towpath extension check no_ads.py             manifest, syntax, class, hooks
  towpath extension check record:record.toml    with a config
  towpath extension list
  towpath run --filter no_ads.py -- curl https://example.org/

A TARGET is FILE.py, a folder with a pyproject.toml, or the name of an extension that is shipped or installed; then
:CONFIG.toml if it takes one. How to write a filter: docs/guides/filter.md.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the subcommand."""
    parser.description = "Begin, check and list filters: the Python classes that decide about names, flows and bytes."
    parser.epilog = _EXAMPLES
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    new = actions.add_parser("new", help="write the start of an extension and its test")
    new.add_argument("name", metavar="NAME", help="small letters, digits and '-': no-ads")
    new.add_argument(
        "--kind", choices=("content-filter", "dns-proxy"), default="content-filter", help="default: %(default)s"
    )
    new.add_argument("--folder", metavar="DIR", default=".", help="where to (default: here)")
    new.set_defaults(call=_new)

    check = actions.add_parser("check", help="say what is wrong with an extension (exit 1), or what it is (exit 0)")
    check.add_argument("target", metavar="TARGET", help="FILE.py, FOLDER or NAME, then :CONFIG.toml")
    check.add_argument("--json", action="store_true", help="print one JSON object")
    check.set_defaults(call=_check)

    listing = actions.add_parser("list", help="the extensions that can be used by name")
    listing.add_argument("--json", action="store_true", help="print a JSON list")
    listing.set_defaults(call=_list)


def _new(options: argparse.Namespace) -> int:
    from towpath.hosting.template import write_content_filter, write_dns_proxy

    write = write_dns_proxy if options.kind == "dns-proxy" else write_content_filter
    file, test = write(options.name, options.folder)
    print(f"{file}\n{test}\nnext: python -m pytest {test}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from towpath.hosting.check import check_extension

    try:
        checked = check_extension(options.target)
    except ConfigInvalid as error:
        if options.json:
            fault = {"where": error.where, "reason": error.reason, "hint": error.hint}
            print(json.dumps({"ok": False, "error": fault}, indent=2))
        else:
            print(error, file=sys.stderr)
            if error.hint:
                print(f"  hint: {error.hint}", file=sys.stderr)
        return 1
    manifest = checked.bundle.manifest
    if options.json:
        found = {
            "ok": True,
            "id": manifest.id,
            "version": manifest.version,
            "kind": manifest.kind,
            "capabilities": manifest.capabilities,
            "memory": manifest.memory,
            "file": checked.bundle.file,
            "class": checked.class_name,
            "hooks": checked.hooks,
            "config_type": checked.config_type,
            "config_file": checked.bundle.config_file,
            "config_checked": checked.config_checked,
        }
        print(json.dumps(found, indent=2))
        return 0
    print(f"{manifest.id} {manifest.version}, {manifest.kind}: {checked.bundle.file}")
    print(f"  class         {checked.class_name}")
    print(f"  hooks         {', '.join(checked.hooks) or 'none: it allows everything'}")
    print(f"  capabilities  {', '.join(manifest.capabilities)}")
    print(f"  memory        {manifest.memory} MB")
    if checked.config_type:
        said = f"fits {checked.bundle.config_file}" if checked.config_checked else "none given, so not checked"
        print(f"  config        {checked.config_type}: {said}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from towpath.hosting.bundle import find_bundle, known_extensions

    rows = []
    for known in known_extensions():
        row: dict[str, object] = {"name": known.name, "from": known.origin, "file": known.file}
        try:
            manifest = find_bundle(known.name, kind=None).manifest
            row |= {"version": manifest.version, "kind": manifest.kind, "capabilities": manifest.capabilities}
        except ConfigInvalid as error:
            row |= {"error": str(error)}
        rows.append(row)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    from towpath.cli.table import print_table

    print_table(
        ("NAME", "VERSION", "KIND", "FROM", "FILE"),
        [
            [str(row["name"]), str(row.get("version", "")), str(row.get("kind", "")), str(row["from"])]
            + [str(row.get("error") or row["file"])]
            for row in rows
        ],
    )
    return 0
