"""Bodies that mean harm: what is nested, named, numbered or repeated without measure, text that is
no text, and YAML that explodes. Each is taken or refused in the API's own words, within a bound of
work, whichever verb reads it."""

from __future__ import annotations

import gzip
import time

import pytest

from tests.kit.cluster import Cluster, api_cluster

CM = "/api/v1/namespaces/default/configmaps"
JSON, YAML = "application/json", "application/yaml"
PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
CPU_S = 5.0
"""Of this process; all take less than a second, and without their bounds minutes."""
HEAD = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"z"},'
META = b'{"metadata":{"name":"z"},"data":'


def nested(depth: int) -> bytes:
    return HEAD + b'"x":' + b"[" * depth + b"]" * depth + b"}"


# A body, and what becomes of it as JSON of a create: a status, and words of the answer.
BODIES: dict[str, tuple[bytes, int, str]] = {
    "brackets": (b"[" * 1_500_000, 400, ""),
    "braces": (b'{"a":' * 300_000, 400, ""),
    "deep": (nested(100_000), 400, "exceeded max depth"),
    "too deep to store": (nested(250), 400, "exceeded max depth"),
    "as deep as may be": (nested(150), 201, '"name":"z"'),
    "a huge field": (HEAD + b'"' + b"k" * 2_000_000 + b'":1}', 201, '"name":"z"'),
    "a huge key": (META + b'{"' + b"k" * 2_000_000 + b'":"1"}}', 422, "must be no more than 253"),
    "a huge label": (b'{"metadata":{"name":"z","labels":{"' + b"k" * 2_000_000 + b'":""}}}', 422,
                     "must be no more than 63"),
    "a huge name": (b'{"metadata":{"name":"' + b"k" * 2_000_000 + b'"}}', 422,
                    "must be no more than 253"),
    "many unknown fields": (HEAD + b",".join(b'"k%d":1' % n for n in range(150_000)) + b"}", 201,
                            '"name":"z"'),
    "one key again and again": (META + b"{" + b",".join([b'"k":""'] * 300_000) + b"}}", 201, '"k"'),
    "a million digits": (HEAD + b'"x":' + b"9" * 1_000_000 + b"}", 400,
                         "cannot unmarshal number 9999"),
    "a large integer": (b'{"metadata":{"name":"z","generation":' + b"9" * 4000 + b"}}", 400, ""),
    "a large float": (b'{"metadata":{"name":"z","generation":1e400}}', 400, ""),
    "a fraction": (b'{"metadata":{"name":"z","generation":1.5}}', 400, "generation of type int64"),
    "no number": (b'{"metadata":{"name":"z","generation":NaN}}', 400, "invalid character 'N'"),
    "a long fraction": (HEAD + b'"x":0.' + b"1" * 2_000_000 + b"}", 201, '"name":"z"'),
    "a long exponent": (HEAD + b'"x":1e' + b"9" * 100_000 + b"}", 400, "unmarshal number 1e99"),
    "wrong UTF-8": (META + b'{"k":"\xff\xfe"}}', 201, "\ufffd\ufffd"),
    "wrong UTF-8 in a key": (META + b'{"\xff":"a"}}', 422, "Invalid value"),
    "an overlong slash": (META + b'{"k":"\xc0\xaf"}}', 201, "\ufffd\ufffd"),
    "half a pair": (META + b'{"k":"\\ud800"}}', 201, "\ufffd"),
    "half a pair in a name": (b'{"metadata":{"name":"\\udfff"}}', 422, "RFC 1123"),
    "a pair": (META + b'{"k":"\\ud83d\\ude00"}}', 201, "\U0001f600"),
    "a nul": (META + b'{"k":"\\u0000"}}', 201, "\\u0000"),
    "a nul in a name": (b'{"metadata":{"name":"z\\u0000"}}', 422, "RFC 1123"),
    "a bare nul": (META + b'{"k":"\0"}}', 400, "invalid character"),
    "UTF-16": ('{"metadata":{"name":"z"}}'.encode("utf-16"), 400, ""),
    "two values": (b'{"metadata":{"name":"z"}}{"x":1}', 400, "after top-level value"),
    # Nothing is unpacked on the way in, so that nothing can be a bomb: it is no JSON.
    "a bomb": (gzip.compress(bytes(3_000_000)), 400, "invalid character"),
}  # fmt: skip


async def ask(cluster: Cluster, method: str, path: str, body: bytes, media: str) -> tuple[int, str]:
    began = time.process_time()
    answer = await cluster.http(method, path, body, content_type=media)
    assert time.process_time() - began < CPU_S, (method, media)
    assert answer.status < 500, (method, media, answer.message[:200])
    return answer.status, answer.body.decode()


async def spread(cluster: Cluster, body: bytes) -> None:
    """Whatever else reads a body reads this one."""
    await ask(cluster, "POST", f"{CM}?fieldValidation=Strict&dryRun=All", body, JSON)
    for media in PATCHES:
        await ask(cluster, "PATCH", f"{CM}/p?fieldManager=f&dryRun=All", body, media)
    await ask(cluster, "DELETE", f"{CM}/p?dryRun=All", body, JSON)
    reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    await ask(cluster, "POST", reviews, body, JSON)


@pytest.mark.parametrize("name", BODIES)
async def test_json_without_measure(name: str) -> None:
    body, expected, words = BODIES[name]
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "p"}, "data": {"a": "b"}})
        status, text = await ask(cluster, "POST", CM, body, JSON)
        assert (status, words in text) == (expected, True), text[:300]
        await spread(cluster, body)
        await ask(cluster, "POST", f"{CM}?dryRun=All", body, YAML)
        assert (await cluster.http("GET", "/readyz")).body == b"ok"


def tower(first: bytes, floor: bytes) -> bytes:
    """Aliases of aliases: each line is the one before nine times."""
    lines = [b"a0: &a0 " + first]
    lines += [b"a%d: &a%d " % (n, n) + floor.replace(b"@", b"*a%d" % (n - 1)) for n in range(1, 9)]
    return b"\n".join(lines)


NINE = b"{" + b", ".join(b"k%d: @" % n for n in range(9)) + b"}"
MANY = "too many values"
ALIASES = "excessive aliasing"
DOCUMENTS: dict[str, tuple[bytes, int, str]] = {
    "aliases of lists": (tower(b"[x]", b"[@,@,@,@,@,@,@,@,@]"), 400, ALIASES),
    "aliases of maps": (tower(b"{x: 1}", NINE), 400, ALIASES),
    "many aliases": (b"a: &a x\nl: [" + b",".join([b"*a"] * 500_000) + b"]", 400, ALIASES),
    "an alias of itself": (b"a: &a [*a]", 400, "contains itself"),
    "an alias of nothing": (b"a: *b", 400, "not defined"),
    "a merge": (b"m: &m {name: z}\nmetadata: {<<: *m}", 201, '"name":"z"'),
    "merges of one another": (tower(b"{x: 1}", b"{<<: [@,@,@,@,@,@,@,@,@]}"), 422, "metadata.name"),
    "a merge of many": (b"b: {<<: [" + b",".join(b"{k%d: 1}" % n for n in range(70_000)) + b"]}",
                        422, "metadata.name"),
    "a merge of too many": (b"b: {<<: [" + b",".join([b"{a: 1}"] * 200_000) + b"]}", 400, MANY),
    "a merge of a number": (b"<<: 1", 400, "map merge requires map"),
    "two documents": (b"metadata: {name: z}\n---\nmetadata: {name: y}\n", 201, '"name":"z"'),
    "a second one that is none": (b"metadata: {name: z}\n---\n[", 201, '"name":"z"'),
    "documents without end": (b"---\n" * 700_000, 422, ""),
    "brackets": (b"[" * 1_000_000, 400, "exceeded max depth"),
    "dashes": (b"- " * 500_000, 400, "exceeded max depth"),
    "words": (b"[" + b"a," * 1_000_000 + b"]", 400, MANY),
    "one key again and again": (b"{" + b"a: 1, " * 300_000 + b"}", 400, MANY),
    "many anchors": (b"\n".join(b"k%d: &a%d x" % (n, n) for n in range(200_000)), 400, MANY),
    "a comment": (b"#" * 3_000_000, 422, ""),
    "blanks": (b" " * 3_000_000, 422, ""),
    "folds": (b'a: "' + b"\\\n" * 1_000_000 + b'"', 422, ""),
    "directives": (b"%TAG ! a\n" * 100_000 + b"---\na", 400, ""),
    "a tag of Python": (b"!!python/object/apply:os.system [id]", 400, "cannot unmarshal array"),
    "half a pair": (b'metadata: {name: z}\ndata: {k: "\\ud800"}', 400, ""),
    "a nul": (b"a: \0", 400, ""),
    "wrong UTF-8": (b"a: \xff", 400, ""),
    "digits": (b"a: " + b"9" * 1_000_000, 422, ""),
    "octal digits": (b"a: 0" + b"7" * 390, 422, ""),
    "infinity": (b"metadata: {name: z, generation: .inf}", 400, "unsupported value"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_yaml_without_measure(name: str) -> None:
    body, expected, words = DOCUMENTS[name]
    async with api_cluster() as cluster:
        await cluster.http("POST", CM, {"metadata": {"name": "p"}})
        status, text = await ask(cluster, "POST", CM, body, YAML)
        assert (status, words in text) == (expected, True), text[:300]
        path = f"{CM}/p?fieldManager=f&dryRun=All"
        await ask(cluster, "PATCH", path, body, "application/apply-patch+yaml")
        assert (await cluster.http("GET", "/readyz")).body == b"ok"
