"""What authors and filters exchange: values that travel, and a class that needs little."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import msgspec
import pytest

from towpath.errors import Misuse
from towpath.providers import (
    MOST_PEEK,
    Address,
    Allow,
    ContentFilterProvider,
    Drop,
    FilterSettings,
    Flow,
    FlowReport,
    FlowVerdict,
    NetworkRule,
    Owner,
    Pause,
    Peek,
    Prompt,
    Question,
    Reply,
)

FLOW = Flow(
    number=7,
    transport="tcp",
    direction="outbound",
    local=Address("192.0.2.1", 40000),
    remote=Address("2001:db8::7", 443),
    started=1.5,
    owner=Owner(42, "curl", "/usr/bin/curl", ("curl", "x")),
)
VALUES: list[tuple[object, object]] = [
    (Allow(), FlowVerdict),
    (Drop("no", silent=True), FlowVerdict),
    (Peek(1, 2), FlowVerdict),
    (Pause(), FlowVerdict),
    (FLOW, Flow),
    (Question(number=1, name="a.test", type="A", transport="udp", server=Address("192.0.2.2", 53)), Question),
    (FlowReport(flow=FLOW, verdict="dropped", reason="no", ended=2.5), FlowReport),
    (FilterSettings((NetworkRule("drop", "192.0.2.0/24"),)), FilterSettings),
    (Prompt("k", "t", ("a",), {"b": "c"}), Prompt),
    (Reply(None, "nobody"), Reply),
]


@pytest.mark.parametrize(("value", "kind"), VALUES, ids=lambda one: type(one).__name__)
def test_values_travel_as_messages(value: object, kind: type) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind) == value
    assert msgspec.json.decode(msgspec.json.encode(value), type=kind) == value


def test_values_cannot_be_changed() -> None:
    for value, _ in VALUES:
        fields = value.__struct_fields__  # type: ignore[attr-defined]
        for field in fields:
            with pytest.raises(AttributeError):
                setattr(value, field, None)


def test_a_flow_says_where_it_goes() -> None:
    named = msgspec.structs.replace(FLOW, name="news.test")
    assert (FLOW.host, FLOW.destination) == ("2001:db8::7", "[2001:db8::7]:443")
    assert (named.host, named.destination) == ("news.test", "news.test:443")
    assert (str(FLOW.remote), str(FLOW.local)) == ("[2001:db8::7]:443", "192.0.2.1:40000")


@pytest.mark.parametrize("counts", [(-1, 0), (0, -1), (MOST_PEEK + 1, 0), (0, MOST_PEEK + 1)])
def test_a_count_out_of_range_is_misuse(counts: tuple[int, int]) -> None:
    with pytest.raises(Misuse, match="a count is 0 to 65536"):
        Peek(*counts)
    assert Peek(MOST_PEEK, MOST_PEEK).inbound == MOST_PEEK


class Words(msgspec.Struct):
    words: list[str]


@dataclass
class Limit:
    limit: int


class Plain(ContentFilterProvider):
    pass


class WithStruct(ContentFilterProvider[Words]):
    pass


class Heir(WithStruct):
    pass


class WithDataclass(ContentFilterProvider[Limit]):
    pass


@pytest.mark.parametrize(
    ("provider", "config_type"), [(Plain, None), (WithStruct, Words), (Heir, Words), (WithDataclass, Limit)]
)
def test_the_config_type_is_the_argument_of_the_class(
    provider: type[ContentFilterProvider[object]], config_type: type | None
) -> None:
    assert provider.config_type is config_type


def test_there_is_no_context_before_the_start() -> None:
    with pytest.raises(Misuse, match=r"Plain.context is there from start\(\) on"):
        Plain().log("x")


def test_the_defaults_allow() -> None:
    plain = Plain()
    assert plain.handle_new_flow(FLOW) == Allow()
    assert plain.handle_outbound_data(FLOW, 0, b"") == plain.handle_inbound_data(FLOW, 0, b"") == Allow()
    assert plain.data_complete(FLOW, "outbound") == Allow()
    assert plain.start() is None


def test_importing_it_brings_no_event_loop_and_nothing_of_the_system() -> None:
    program = "import sys, towpath.providers; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    ours = {name for name in modules if name.startswith("towpath.")}
    assert "asyncio" not in modules
    assert all(name.startswith(("towpath.providers", "towpath.errors", "towpath.wire")) for name in ours)
