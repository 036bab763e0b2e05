"""Rules narrowed to methods and paths of plain HTTP: what they cover, and what is no way round them."""

from __future__ import annotations

import pytest

from towpath.errors import ConfigInvalid
from towpath.policy.explain import explain
from towpath.policy.policy import Decision, Policy
from towpath.policy.request import Asked
from towpath.policy.rule import parse_rule

A = "192.0.2.1"


def decided(allow: list[str], deny: list[str], method: str, path: str, override: str | None = None) -> Decision:
    policy = Policy.load(allow, deny, [])
    return policy.decide_seen("tcp", A, 80, ["web.test"], "http", "web.test", Asked(method, path, override))


@pytest.mark.parametrize(
    ("text", "methods", "path", "host", "port"),
    [
        ("http://web.test/", None, "/", "web.test", None),
        ("http://web.test:8080/a/*", None, "/a/*", "web.test", 8080),
        ("GET http://web.test", {"GET"}, None, "web.test", None),
        ("GET,HEAD http://*.web.test/a", {"GET", "HEAD"}, "/a", "*.web.test", None),
        ("http://10.0.0.0/8", None, None, "10.0.0.0/8", None),
        ("http://10.0.0.0/8/a", None, "/a", "10.0.0.0/8", None),
        ("http://10.0.0.1:80/8", None, "/8", "10.0.0.1", 80),
        ("http://[2001:db8::/32]:80/a", None, "/a", "2001:db8::/32", 80),
        ("http://[2001:db8::1]/a", None, "/a", "2001:db8::1", None),
        ("http://web.test/%7Euser/%61", None, "/~user/a", "web.test", None),
    ],
)
def test_a_narrowed_rule_is_read(
    text: str, methods: set[str] | None, path: str | None, host: str, port: int | None
) -> None:
    rule = parse_rule(text, "allow", "--allow")
    assert (rule.host.text, rule.port, rule.text) == (host, port, text)
    assert (rule.request is None) == (methods is None and path is None)
    if rule.request:
        assert (rule.request.methods, rule.request.path) == (methods, path)


@pytest.mark.parametrize(
    ("text", "column", "says", "hint"),
    [
        ("get http://web.test/", 1, "no list of methods", "GET http://web.test/"),
        ("GET web.test:80", 4, "no spaces", "one rule each"),
        ("GET tls://web.test", 5, "of plain HTTP alone", "http://web.test"),
        ("GET,,HEAD http://web.test", 1, "no list of methods", "GET,HEAD"),
        ("http://web.test/a?b=c", 18, "no query", "leave out ?b=c"),
        ("http://web.test/a#b", 18, "no query and no fragment", "leave out #b"),
        ("http://web.test/a/../b", 16, "dot segment", "/simple/*"),
        ("http://web.test/@types%2fnode", 16, "may be read as /@types/node too", "/simple/*"),
        ("http://web.test/a//b", 16, "may be read as /a/b", "/simple/*"),
        ("http://web.test/a*b/c", 16, "whole segment", "/simple/*"),
        ("http://web.test/a%zz", 16, "no escape", "/simple/*"),
        ("web.test/a", 9, "only http rules have a path", "http://web.test/a"),
    ],
)
def test_a_mistake_in_a_narrowed_rule_is_shown(text: str, column: int, says: str, hint: str | None) -> None:
    with pytest.raises(ConfigInvalid) as raised:
        parse_rule(text, "allow", "--allow")
    assert f", column {column}: " in raised.value.reason
    assert says in raised.value.reason
    assert (hint or "") in (raised.value.hint or "")


@pytest.mark.parametrize(
    ("rule", "method", "path", "verdict"),
    [
        ("GET http://web.test", "GET", "/any", "allow"),
        ("GET http://web.test", "HEAD", "/any", "deny"),
        ("GET,HEAD http://web.test", "HEAD", "/any", "allow"),
        ("GET http://web.test", "get", "/any", "deny"),
        ("http://web.test/", "POST", "/", "allow"),
        ("http://web.test/", "GET", "/a", "deny"),
        ("http://web.test/a", "GET", "/a", "allow"),
        ("http://web.test/a", "GET", "/a/", "deny"),
        ("http://web.test/a", "GET", "/A", "deny"),
        ("http://web.test/a/*", "GET", "/a/", "allow"),
        ("http://web.test/a/*", "GET", "/a/b/c", "allow"),
        ("http://web.test/a/*", "GET", "/a", "deny"),
        ("http://web.test/a/*", "GET", "/ab", "deny"),
        ("http://web.test/a*", "GET", "/ab/c", "allow"),
        ("http://web.test/repos/*/tags", "GET", "/repos/x/tags", "allow"),
        ("http://web.test/repos/*/tags", "GET", "/repos/x/y/tags", "deny"),
        ("http://web.test/repos/*/tags", "GET", "/repos//tags", "deny"),
        ("http://web.test/repos/*/tags/*", "GET", "/repos/x/tags/1/2", "allow"),
        ("http://web.test/a%20b", "GET", "/a%20b", "allow"),
        ("http://web.test/a..", "GET", "/a%2e.", "allow"),
        ("http://web.test/ü", "GET", "/%C3%BC", "allow"),
        ("http://web.test/a/*", "GET", "/%61/b", "allow"),
        ("http://web.test/*", "GET", "/@types%2fnode", "allow"),
        ("http://web.test/@types%20/*", "GET", "/@types%20/x", "allow"),
        ("http://web.test/*", "OPTIONS", "*", "deny"),
    ],
)
def test_an_allow_covers_what_it_says(rule: str, method: str, path: str, verdict: str) -> None:
    assert decided([rule], [], method, path).verdict == verdict


EVASIONS = {
    "dot segments": "/public/../secret",
    "a dot segment at the end": "/public/..",
    "encoded dots": "/public/%2e%2e/secret",
    "half encoded dots": "/public/.%2E/secret",
    "an encoded slash behind dots": "/public/..%2fsecret",
    "encoded slashes and dots": "/public/%2e%2e%2fsecret",
    "dots encoded twice": "/public/%252e%252e/secret",
    "dots encoded thrice": "/public/%25252e%25252e/secret",
    "encoded beyond reading": "/public/%2525252525252e./secret",
    "a path parameter behind dots": "/public/..;/secret",
    "a named path parameter": "/public/..;x=1/secret",
    "a backslash": "/public\\..\\secret",
    "an encoded backslash": "/public/..%5csecret",
    "a backslash encoded twice": "/public/..%255csecret",
    "overlong UTF-8 dots": "/public/%c0%ae%c0%ae/secret",
    "overlong UTF-8 slash": "/public/..%c0%afsecret",
    "no escape": "/public/%2/secret",
    "a Microsoft escape": "/public/%u002e%u002e/secret",
    "an encoded zero byte": "/public/%00/../secret",
    "an encoded line end": "/public/%0d%0aGET%20/secret",
    "a single dot": "/public/./x",
    "a dot behind an encoded question mark": "/public/x%3f/../../secret",
    "an encoded delete": "/public/%7f",
}


@pytest.mark.parametrize("path", EVASIONS.values(), ids=EVASIONS.keys())
def test_a_path_that_a_server_may_read_as_another_is_allowed_by_no_path(path: str) -> None:
    decision = decided(["http://web.test/public/*"], [], "GET", path)
    assert decision.verdict == "deny"
    assert ": its path " in decision.reason or "may be read as" in decision.reason
    assert decision.hint is None


@pytest.mark.parametrize("path", EVASIONS.values(), ids=EVASIONS.keys())
def test_a_path_that_cannot_be_read_is_held_to_be_the_denied_one(path: str) -> None:
    assert decided(["web.test:80"], ["http://web.test/secret*"], "GET", path).verdict == "deny"


@pytest.mark.parametrize(
    "path",
    ["/secret/x", "//secret/x", "///secret//x", "/secret%2fx", "/%73ecret/x", "/secret;a=1/x", "/%2573ecret/x"],
)
def test_a_deny_holds_in_every_reading(path: str) -> None:
    assert decided(["web.test:80"], ["http://web.test/secret/*"], "GET", path).verdict == "deny"


@pytest.mark.parametrize("path", ["//public/x", "/public%2fx", "/public;a/x", "/public%3f/x", "/pub%256cic/x"])
def test_an_allow_holds_only_if_every_reading_is_covered(path: str) -> None:
    assert decided(["http://web.test/public/*"], [], "GET", path).verdict == "deny"
    assert decided(["http://web.test/*"], [], "GET", path).verdict == "allow"


@pytest.mark.parametrize("header", ["x-http-method-override", "x-original-url"])
def test_a_header_that_asks_for_something_else_is_no_way_round(header: str) -> None:
    assert decided(["GET http://web.test"], [], "GET", "/", header).verdict == "deny"
    assert header in decided(["GET http://web.test"], [], "GET", "/", header).reason
    assert decided(["web.test:80"], ["DELETE http://web.test"], "POST", "/", header).verdict == "deny"
    assert decided(["web.test:80"], ["http://web.test/secret"], "GET", "/", header).verdict == "deny"
    assert decided(["web.test:80"], [], "GET", "/", header).verdict == "allow"


def test_a_refused_request_is_told_with_what_would_allow_it() -> None:
    decision = decided(["GET http://web.test/simple/*"], [], "POST", "/simple/six/")
    assert decision.reason == "--allow 'GET http://web.test/simple/*': it is for GET, not for POST"
    assert decision.hint == "--allow 'POST http://web.test/simple/six/'"
    assert decided([decision.hint[9:-1]], [], "POST", "/simple/six/").verdict == "allow"


def test_a_narrowed_rule_waits_for_the_request() -> None:
    policy = Policy.load(["GET http://web.test/a"], [], [])
    assert policy.decide_flow("tcp", A, 80, ["web.test"]).verdict == "look"
    assert policy.decide_name("web.test").verdict == "allow"
    assert policy.decide_seen("tcp", A, 80, ["web.test"], "http", "web.test").verdict == "deny"


@pytest.mark.parametrize(
    ("destination", "verdict", "shown"),
    [
        ("http://web.test/simple/six/", "allow", "http://web.test:80/simple/six/"),
        ("HEAD http://web.test/simple/six/", "deny", "http://web.test:80/simple/six/"),
        ("http://web.test/", "deny", "http://web.test:80/"),
        ("http://web.test", "deny", "http://web.test:80"),
    ],
)
def test_a_request_is_explained(destination: str, verdict: str, shown: str) -> None:
    explanation = explain(Policy.load(["GET http://web.test/simple/*"], [], []), destination)
    assert (explanation.verdict, explanation.destination) == (verdict, shown)


def test_a_method_without_plain_http_is_no_destination() -> None:
    with pytest.raises(ConfigInvalid):
        explain(Policy.load([], [], []), "GET https://web.test/")
