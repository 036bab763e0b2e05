"""Which path there is, or why there is none, on machines that exist in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path as FilePath

import pytest

from towpath.errors import ConfigInvalid, Misuse
from towpath.kernel.network import AddressFlag
from towpath.path import (
    InterfaceType,
    Mark,
    Metered,
    Path,
    PathMonitor,
    PathPolicy,
    PathRequirements,
    PathStatus,
    UnsatisfiedReason,
    path_for,
)
from towpath.testing import NetworkTwin

FREE = PathPolicy()


@pytest.fixture
def twin() -> NetworkTwin:
    """A laptop: wired and Wi-Fi, both with an address and a default route; wired is preferred."""
    made = NetworkTwin()
    made.add_link("wire")
    made.add_address("wire", "192.0.2.9/24")
    made.add_default_route("wire", "192.0.2.1", metric=100)
    made.add_link("air", wireless=True)
    made.add_address("air", "198.51.100.9/24")
    made.add_default_route("air", "198.51.100.1", metric=600)
    return made


def path(twin: NetworkTwin, requirements: PathRequirements | None = None, policy: PathPolicy = FREE) -> Path:
    return PathMonitor(requirements, network=twin, policy=policy).current()


def names(found: Path) -> list[str]:
    return [interface.name for interface in found.interfaces]


def test_interfaces_are_in_the_order_of_their_metrics(twin: NetworkTwin) -> None:
    found = path(twin)
    assert found.status is PathStatus.SATISFIED
    assert names(found) == ["wire", "air"]
    assert [str(gateway) for gateway in found.gateways] == ["192.0.2.1", "198.51.100.1"]


def test_the_metrics_of_one_ip_version_do_not_rank_the_other(twin: NetworkTwin) -> None:
    twin.add_address("wire", "2001:db8::9/64")
    twin.add_default_route("wire", "fe80::1", metric=1024)
    found = path(twin)
    assert names(found) == ["wire", "air"]
    assert str(found.gateways[1]) == "fe80::1%wire"


@pytest.mark.parametrize(
    ("address", "gateway", "supports"),
    [("192.0.2.9/24", "192.0.2.1", (True, False)), ("2001:db8::9/64", "fe80::1", (False, True))],
)
def test_a_path_supports_the_versions_that_it_has_routes_and_addresses_for(
    address: str, gateway: str, supports: tuple[bool, bool]
) -> None:
    twin = NetworkTwin()
    twin.add_link("wire")
    twin.add_address("wire", address)
    twin.add_default_route("wire", gateway)
    found = path(twin)
    assert (found.supports_ipv4, found.supports_ipv6) == supports


def test_names_are_supported_where_a_name_server_is_configured(twin: NetworkTwin) -> None:
    assert path(twin).supports_dns
    twin.set_resolvers()
    assert not path(twin).supports_dns


def nothing(twin: NetworkTwin) -> None:
    for name in ("wire", "air"):
        twin.remove_link(name)


def switched_off(twin: NetworkTwin) -> None:
    twin.remove_link("air")
    twin.set_link("wire", up=False)


def unplugged(twin: NetworkTwin) -> None:
    twin.remove_link("air")
    twin.set_link("wire", carrier=False)


def without_addresses(twin: NetworkTwin) -> None:
    twin.remove_address("wire", "192.0.2.9/24")
    twin.remove_address("air", "198.51.100.9/24")


def with_tentative_address(twin: NetworkTwin) -> None:
    nothing(twin)
    twin.add_link("wire")
    twin.add_address("wire", "2001:db8::9/64", AddressFlag.TENTATIVE)
    twin.add_default_route("wire", "fe80::1")


def with_duplicate_link_local_address(twin: NetworkTwin) -> None:
    nothing(twin)
    twin.add_link("wire")
    twin.add_address("wire", "fe80::9/64", AddressFlag.DUPLICATE)


def without_routes(twin: NetworkTwin) -> None:
    twin.remove_default_routes("wire")
    twin.remove_default_routes("air")


def unplugged_and_switched_off(twin: NetworkTwin) -> None:
    twin.set_link("wire", carrier=False)
    twin.set_link("air", up=False)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (nothing, UnsatisfiedReason.NO_INTERFACE),
        (switched_off, UnsatisfiedReason.INTERFACE_DOWN),
        (unplugged, UnsatisfiedReason.NO_CARRIER),
        (without_addresses, UnsatisfiedReason.NO_ADDRESS),
        (with_tentative_address, UnsatisfiedReason.ADDRESS_TENTATIVE),
        (with_duplicate_link_local_address, UnsatisfiedReason.NO_ADDRESS),
        (without_routes, UnsatisfiedReason.NO_ROUTE),
        (unplugged_and_switched_off, UnsatisfiedReason.NO_CARRIER),
    ],
)
def test_without_a_path_the_first_reason_is_given(
    twin: NetworkTwin, harm: Callable[[NetworkTwin], None], reason: UnsatisfiedReason
) -> None:
    harm(twin)
    found = path(twin)
    assert (found.status, found.reason) == (PathStatus.UNSATISFIED, reason)
    assert not found.interfaces


def test_a_dormant_interface_requires_a_connection() -> None:
    twin = NetworkTwin()
    twin.add_link("dial", device_type="wwan", dormant=True)
    twin.add_address("dial", "192.0.2.9/24")
    twin.add_default_route("dial")
    found = path(twin)
    assert (found.status, found.reason) == (PathStatus.REQUIRES_CONNECTION, UnsatisfiedReason.DORMANT)


def test_the_next_interface_is_taken_when_the_first_is_unplugged(twin: NetworkTwin) -> None:
    twin.set_link("wire", carrier=False)
    assert names(path(twin)) == ["air"]


COSTLY = PathPolicy.parse(
    "[types.wired]\nexpensive = true\nconstrained = true\n[interfaces.air]\nexpensive = false\n", "paths.toml"
)


@pytest.mark.parametrize(
    ("requirements", "expected"),
    [
        (PathRequirements(required_interface="air"), ["air"]),
        (PathRequirements(required_type=InterfaceType.WIFI), ["air"]),
        (PathRequirements(prohibited_interfaces=frozenset({"wire"})), ["air"]),
        (PathRequirements(prohibited_types=frozenset({InterfaceType.WIRED})), ["air"]),
        (PathRequirements(prohibit_expensive=True), ["air"]),
        (PathRequirements(prohibit_constrained=True), ["air"]),
        (PathRequirements(), ["wire", "air"]),
    ],
)
def test_requirements_leave_interfaces_out(
    twin: NetworkTwin, requirements: PathRequirements, expected: list[str]
) -> None:
    assert names(path(twin, requirements, COSTLY)) == expected


@pytest.mark.parametrize(
    ("requirements", "reason"),
    [
        (PathRequirements(prohibit_expensive=True), UnsatisfiedReason.EXPENSIVE_PROHIBITED),
        (PathRequirements(prohibit_constrained=True), UnsatisfiedReason.CONSTRAINED_PROHIBITED),
        (PathRequirements(required_type=InterfaceType.CELLULAR), UnsatisfiedReason.INTERFACE_PROHIBITED),
    ],
)
def test_c5_what_is_not_tolerated_is_no_path_and_says_why(
    twin: NetworkTwin, requirements: PathRequirements, reason: UnsatisfiedReason
) -> None:
    twin.remove_link("air")
    found = path(twin, requirements, COSTLY)
    assert (found.status, found.reason) == (PathStatus.UNSATISFIED, reason)


def test_marks_come_with_who_says_so(twin: NetworkTwin) -> None:
    found = path(twin, policy=COSTLY)
    assert (bool(found.expensive), found.expensive.reason) == (True, "paths.toml says so of wired")
    twin.set_link("wire", carrier=False)
    found = path(twin, policy=COSTLY)
    assert (bool(found.expensive), found.expensive.reason) == (False, "paths.toml says so of air")
    assert (bool(found.constrained), found.constrained.reason) == (False, "paths.toml does not say")
    assert (bool(path(twin).expensive), path(twin).expensive.reason) == (False, "there is no policy file")


@pytest.mark.parametrize(
    ("metered", "value", "words"),
    [
        (Metered.YES, True, "NetworkManager says it is metered"),
        (Metered.NO, False, "NetworkManager says it is not metered"),
        (Metered.GUESSED_YES, True, "NetworkManager guesses that it is metered"),
        (Metered.GUESSED_NO, False, "NetworkManager guesses that it is not metered"),
        (None, False, "there is no policy file"),
    ],
)
def test_what_network_manager_calls_metered_is_expensive(
    twin: NetworkTwin, metered: Metered | None, value: bool, words: str
) -> None:
    twin.set_metered("wire", metered)
    assert path(twin).expensive == Mark(value, words)
    assert names(path(twin, PathRequirements(prohibit_expensive=True)))[:1] == (["air"] if value else ["wire"])
    assert path(twin).constrained == Mark(False, "there is no policy file")


@pytest.mark.parametrize(("table", "key"), [("interfaces", "wire"), ("types", "wired")])
@pytest.mark.parametrize(("word", "metered"), [("true", Metered.NO), ("false", Metered.YES)])
def test_the_policy_file_overrules_network_manager(
    twin: NetworkTwin, table: str, key: str, word: str, metered: Metered
) -> None:
    twin.set_metered("wire", metered)
    policy = PathPolicy.parse(f"[{table}.{key}]\nexpensive = {word}\n", "paths.toml")
    assert path(twin, policy=policy).expensive == Mark(word == "true", f"paths.toml says so of {key}")


def test_c4_an_interface_for_management_is_marked_by_policy_and_carries_no_path(twin: NetworkTwin) -> None:
    policy = PathPolicy.parse("[interfaces.wire]\nmanagement = true\n", "paths.toml")
    assert names(path(twin, policy=policy)) == ["air"]
    assert names(path(twin, PathRequirements(required_interface="wire"), policy)) == ["wire"]
    twin.remove_link("air")
    assert path(twin, policy=policy).reason is UnsatisfiedReason.MANAGEMENT_ONLY


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "paths.toml: "),
        ("[links.a]\n", "no such table: links"),
        ("[types.wlan]\n", "no such type: wlan"),
        ("types = 3\n", "types: must be a table of tables"),
        ("[interfaces]\na = 3\n", "interfaces.a: must be a table"),
        ("[interfaces.a]\ncheap = true\n", "no such mark: cheap"),
        ('[interfaces.a]\nexpensive = "yes"\n', "expensive must be true or false"),
    ],
)
def test_a_policy_that_cannot_be_used_says_where_and_why(text: str, words: str) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        PathPolicy.parse(text, "paths.toml")


def test_the_users_own_policy_file_is_found(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "towpath" / "paths.toml"
    file.parent.mkdir()
    file.write_text("[types.cellular]\nexpensive = true\n")
    assert PathPolicy.default().source == str(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigInvalid, match="not UTF-8"):
        PathPolicy.default()


@pytest.mark.parametrize(
    ("destination", "expected", "gateways"),
    [("198.51.100.77", ["air"], []), ("203.0.113.5", ["wire"], ["192.0.2.1"]), ("2001:db8::1", [], [])],
)
def test_the_path_to_an_address_is_the_one_its_route_takes(
    twin: NetworkTwin, destination: str, expected: list[str], gateways: list[str]
) -> None:
    found = path_for(destination, network=twin, policy=FREE)
    assert names(found) == expected
    assert [str(gateway) for gateway in found.gateways] == gateways
    assert found.reason is (None if expected else UnsatisfiedReason.NO_ROUTE)
    assert str(found.destination) == destination


def test_a_required_interface_directs_the_route(twin: NetworkTwin) -> None:
    found = path_for("203.0.113.5", PathRequirements(required_interface="air"), network=twin, policy=FREE)
    assert names(found) == ["air"]


def test_a_name_is_no_address_and_the_error_says_what_to_do(twin: NetworkTwin) -> None:
    with pytest.raises(Misuse, match="not an IP address: 'news.test'") as error:
        path_for("news.test", network=twin)
    assert error.value.hint is not None


def test_paths_of_the_same_facts_are_equal(twin: NetworkTwin) -> None:
    before = path(twin)
    assert before == path(twin)
    twin.add_address("air", "2001:db8:1::9/64")
    assert before != path(twin)
