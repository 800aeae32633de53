"""What passes a proxy: headers, links, names."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.errors import BadRequest
from sampan.server.proxying.headers import encode_head, request_headers, response_headers
from sampan.server.proxying.rewriting import HtmlRewriter, rewrite_link
from sampan.server.subresources.proxy import is_reachable, split_name, split_path

PREFIX = "/api/v1/namespaces/x/services/s/proxy"
HOSTS = frozenset(("10.0.0.1:80", "cluster:6443"))


@pytest.mark.parametrize(
    ("link", "made"),
    [
        ("/a/b", f"{PREFIX}/a/b"),
        ("/a/", f"{PREFIX}/a/"),
        ("/", f"{PREFIX}/"),
        ("/a?q=1#f", f"{PREFIX}/a?q=1#f"),
        ("/a/../b", f"{PREFIX}/b"),
        ("http://10.0.0.1:80/a", f"{PREFIX}/a"),
        ("https://cluster:6443/a", f"{PREFIX}/a"),
        (f"{PREFIX}/a", f"{PREFIX}/a"),
        ("a/b", "a/b"),
        ("../a", "../a"),
        ("#top", "#top"),
        ("", ""),
        ("http://elsewhere/a", "http://elsewhere/a"),
        ("//elsewhere/a", "//elsewhere/a"),
        ("mailto:me@x", "mailto:me@x"),
        ("javascript:/x", f"{PREFIX}/x"),
        ("http://[bad", "http://[bad"),
    ],
)
def test_links(link: str, made: str) -> None:
    assert rewrite_link(link, PREFIX, HOSTS) == made


PAGE = b"""<!DOCTYPE html><html><head><link rel=stylesheet href=/s.css>
<script src='/a.js'>if (1 < 2) document.write("<a href='/no'>")</script>
<!-- <a href="/no"> --></head><body title="a > b" BACKGROUND="/b.png">
<a class=x href="/x?a=1&amp;b=2">1 < 2</a><img alt="<" src="y.png"><form action="/f"><a href>
</body></html>"""


def test_a_page_keeps_all_but_its_links() -> None:
    page = HtmlRewriter(PREFIX, HOSTS)
    made = page.feed(PAGE) + page.finish()
    expected = PAGE
    for old, new in (
        (b"href=/s.css", b'href="%b/s.css"'),
        (b"src='/a.js'", b"src='%b/a.js'"),
        (b'BACKGROUND="/b.png"', b'BACKGROUND="%b/b.png"'),
        (b'href="/x?a=1&amp;b=2"', b'href="%b/x?a=1&amp;b=2"'),
        (b'action="/f"', b'action="%b/f"'),
    ):
        assert old in expected
        expected = expected.replace(old, new % PREFIX.encode())
    assert made == expected


@given(st.integers(1, 40))
def test_a_page_may_come_in_any_parts(size: int) -> None:
    whole, parts = HtmlRewriter(PREFIX, HOSTS), HtmlRewriter(PREFIX, HOSTS)
    expected = whole.feed(PAGE) + whole.finish()
    made = b"".join(parts.feed(PAGE[at : at + size]) for at in range(0, len(PAGE), size))
    assert made + parts.finish() == expected


PIECES = (
    b"<", b">", b"<a href=", b'"', b"'", b"/x", b"<!--", b"-->", b"<script>", b"</script>", b" ",
    b"\xff", b"</",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=30))
def test_nothing_is_lost_of_what_is_no_html(parts: list[bytes]) -> None:
    page = HtmlRewriter("/p", frozenset())
    made = b"".join(map(page.feed, parts)) + page.finish()
    plain = made.replace(b"/p/x", b"/x")
    for escaped, mark in ((b"&lt;", b"<"), (b"&gt;", b">"), (b"&#x27;", b"'"), (b"&quot;", b'"')):
        plain = plain.replace(escaped, mark)
    assert plain.replace(b'"', b"") == b"".join(parts).replace(b'"', b"")


def test_which_headers_pass() -> None:
    headers = {
        "host": "h", "authorization": "Bearer x", "connection": "keep-alive, X-Mine",
        "x-mine": "1", "te": "trailers", "transfer-encoding": "chunked", "content-length": "3",
        "upgrade": "websocket", "impersonate-user": "root", "x-remote-user": "root", "accept": "*",
        "cookie": "c", "sec-websocket-protocol": "base64url.bearer.authorization.k8s.io.eA, chat",
    }  # fmt: skip
    kept = [("accept", "*"), ("cookie", "c"), ("sec-websocket-protocol", "chat")]
    assert request_headers(headers, upgrade=False) == kept
    upgraded = request_headers(headers, upgrade=True)
    assert upgraded == [*kept, ("Connection", "Upgrade"), ("Upgrade", "websocket")]
    back = [
        ("Connection", "close, X-A"), ("X-A", "1"), ("Content-Length", "5"),
        ("Set-Cookie", "a"), ("Set-Cookie", "b"), ("Transfer-Encoding", "chunked"),
    ]  # fmt: skip
    assert response_headers(back) == [("Set-Cookie", "a"), ("Set-Cookie", "b")]


def test_a_path_cannot_break_out_of_its_line() -> None:
    head = encode_head("GET", "/a b\r\nX: y/ü?#", "q=1", [("Host", "h")])
    assert head == b"GET /a%20b%0D%0AX:%20y/%C3%BC%3F%23?q=1 HTTP/1.1\r\nHost: h\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("s", ("", "s", "")),
        ("s:80", ("", "s", "80")),
        ("http:s:", ("http", "s", "")),
        ("https:s:web", ("https", "s", "web")),
        ("s:", None), (":80", None), ("ftp:s:80", None), ("a:b:c:d", None), ("http::80", None),
    ],
)  # fmt: skip
def test_names(text: str, parts: tuple[str, str, str] | None) -> None:
    if parts is None:
        with pytest.raises(BadRequest, match="invalid service request"):
            split_name(text, "service")
    else:
        assert split_name(text, "service") == parts


def test_paths() -> None:
    assert split_path("/api/v1/nodes/n/proxy/a//b/") == ("/api/v1/nodes/n/proxy", "/a//b/")
    pod = "/api/v1/namespaces/x/pods/p/proxy"
    assert split_path(pod) == (pod, "")
    assert split_path(f"{pod}/") == (pod, "/")


@pytest.mark.trust
@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("10.0.0.1", True), ("8.8.8.8", True), ("fd00::1", True), ("127.0.0.1", False),
        ("127.8.0.1", False), ("169.254.169.254", False), ("::1", False), ("fe80::1", False),
        ("0.0.0.0", False), ("224.0.0.1", False), ("255.255.255.255", False), ("", False),
        ("localhost", False), ("::ffff:127.0.0.1", False), ("::", False),
    ],
)  # fmt: skip
def test_which_addresses_are_gone_to(host: str, good: bool) -> None:
    assert is_reachable(host) == good


def test_long_words_in_a_tag_cost_no_square() -> None:
    began = time.process_time()
    for inside in (b"a" * 60_000, b"a" + b" " * 60_000, b"a='" * 20_000):
        tag = b"<a " + inside + b">"
        made = HtmlRewriter("/p", frozenset())
        assert made.feed(tag) + made.finish() == tag
    assert time.process_time() - began < 5
