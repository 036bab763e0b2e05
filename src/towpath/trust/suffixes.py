"""Public suffixes, from a list in the published text form: names under which anyone can register."""

from __future__ import annotations

from pathlib import Path

from towpath.errors import ConfigInvalid

__all__ = ["DEBIAN_LIST", "PublicSuffixes"]

DEBIAN_LIST = Path("/usr/share/publicsuffix/public_suffix_list.dat")
"""Where the Debian package `publicsuffix` keeps the list."""
MAX_OCTETS = 4 << 20


class PublicSuffixes:
    """The rules of one list, private section included.

    ::

        suffixes = PublicSuffixes.read(DEBIAN_LIST)
        suffixes("co.uk"), suffixes("example.co.uk")     # True, False
    """

    def __init__(self, text: str) -> None:
        rules = [line.split()[0].lower() for line in text.splitlines() if line.strip() and not line.startswith("//")]
        self._exceptions = {_ascii(rule[1:]) for rule in rules if rule.startswith("!")}
        self._under = {_ascii(rule[2:]) for rule in rules if rule.startswith("*.")}
        self._exact = {_ascii(rule) for rule in rules if rule[0] not in "!*"}

    @classmethod
    def read(cls, path: Path) -> PublicSuffixes:
        """Raises `ConfigInvalid` when the file cannot be read."""
        try:
            if path.stat().st_size > MAX_OCTETS:
                raise ConfigInvalid(str(path), f"is larger than {MAX_OCTETS >> 20} MiB")
            return cls(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigInvalid(str(path), str(error), "install the package publicsuffix, or give its list") from error

    def __call__(self, name: str) -> bool:
        """Whether `name`, in A-labels and lower case, is a public suffix; a single label always is."""
        if name in self._exceptions:
            return False
        return "." not in name or name in self._exact or name.partition(".")[2] in self._under


def _ascii(rule: str) -> str:
    if rule.isascii():
        return rule
    return ".".join(label if label.isascii() else label.encode("idna").decode("ascii") for label in rule.split("."))
