"""Expressions and what they give: CEL's conformance idea, and Kubernetes' libraries."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.api.cel import Budget, CompileError, EvaluationError, compile, kubernetes
from sampan.api.cel.types import DYN, INT, STRING, list_of
from sampan.api.cel.values import Duration, Optional

VALUES: dict[str, Any] = {
    "object": {"a": {"b": "x", "n": 3, "f": 1.5}, "list": [3, 1, 2], "none": None, "a.b": 1},
    "n": 4,
    "words": ["b", "a"],
}
ENVIRONMENT = kubernetes().extend({"object": DYN, "n": INT, "words": list_of(STRING)})


def run(source: str) -> Any:
    value = compile(source, ENVIRONMENT).evaluate(VALUES, Budget())
    return value.value if isinstance(value, Optional) and value.present else value


@pytest.mark.parametrize(
    ("source", "value"),
    [
        # Arithmetic, comparison, logic.
        ("1 + 2 * 3 - 4 / 2 % 3", 5),
        ("-7 / 2", -3),
        ("-7 % 3", -1),
        ("7.0 / 2.0", 3.5),
        ("1.0 / 0.0 > 1e308", True),
        ("2u * 3u", 6),
        ("1 == 1.0 && 1 == 1u && 1u < 1.5", True),
        ("dyn(1) == dyn('1')", False),
        ("dyn(true) == dyn(1)", False),
        ("'a' < 'b' && b'a' < b'b' && false < true", True),
        ("0x1F + -9223372036854775808 < 0", True),
        ("!true || !!true", True),
        ("n > 3 ? 'big' : 'small'", "big"),
        # Errors on the side that does not decide are absorbed.
        ("false && object.gone == 1", False),
        ("object.gone == 1 || true", True),
        ("[1, 2].exists(x, x / (x - 1) == 2)", True),
        ("[1, 2].all(x, x / (x - 1) == 1)", False),
        # Strings.
        (r"'\u00e9\x41\101\n' + r'\n' + \"\"\"a'b\"\"\"".replace('\\"', '"'), "éAA\n\\na'b"),
        ("b'\\xff'.size() + size('é')", 2),
        ("'abc'.charAt(1) + 'AbC'.lowerAscii() + 'aé'.upperAscii()", "babcAé"),
        ("'hello'.indexOf('l') + 'hello'.lastIndexOf('l') + 'hello'.indexOf('l', 3)", 8),
        ("['a', 'b'].join('-') + ['a'].join()", "a-ba"),
        ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
        ("'hello'.replace('l', 'L', 1).substring(1, 4) + ' x '.trim()", "eLlx"),
        ("'%s is %d, %.2f, %x'.format([dyn('a'), dyn(3), dyn(2.5), dyn(255)])", "a is 3, 2.50, ff"),
        ("'%s'.format([[1, 2]])", "[1, 2]"),
        ("strings.quote('a\"b')", '"a\\"b"'),
        ("'abc123'.matches('^[a-z]+\\\\d{3}$') && !matches('abc', '^b')", True),
        ("'abc123'.find('[0-9]+') + 'a1b2'.findAll('[0-9]')[1]", "1232"),
        # Lists and maps.
        ("[1, 2] + [3]", [1, 2, 3]),
        ("object.list[0] + object['a'].n + {'k': 1}.k", 7),
        ("2 in [1, 2] && 'a' in {'a': 1} && !(9 in object.list)", True),
        ("[1, 2, 3].map(x, x > 1, x * 2).filter(x, x > 4)", [6]),
        ("[1, 2, 2].exists_one(x, x == 1) && !['a', 'a'].existsOne(x, x == 'a')", True),
        ("{'a': 1, 'b': 2}.all(k, k != 'c') && {'a': 1}.exists(k, v, v == 1)", True),
        ("[5, 6].transformList(i, v, i + v)", [5, 7]),
        ("[5, 6].transformMap(i, v, v > 5, v * 2)", {1: 12}),
        ("{'a': 1}.transformMapEntry(k, v, {string(v): k})", {"1": "a"}),
        ("words.isSorted() || [1.5, 2.5].sum() == 4.0", True),
        ("[3, 1].min() + [3, 1].max() + [1, 2].sum()", 7),
        ("[1, 2].indexOf(2) + ['a'].lastIndexOf('b')", 0),
        ("sets.contains([1, 2], [2]) && sets.intersects([1], [1, 3])", True),
        ("sets.equivalent([1, 1, 2], [2, 1])", True),
        ("{1: 'a'}[dyn(1.0)]", "a"),
        ("size([1]) + size({'a': 1}) + 'abc'.size()", 5),
        # Presence and optionals.
        ("has(object.a.b) && !has(object.gone) && has(object.none)", True),
        ("object.none == null", True),
        ("object.?gone.orValue('d') + object.a.?b.orValue('d')", "dx"),
        ("object.?gone.deep.hasValue()", False),
        ("object.?a.b.value()", "x"),
        ("[1, 2][?5].orValue(9) + {'a': 1}[?'a'].value()", 10),
        ("optional.of(2).optMap(x, x * 2).value()", 4),
        ("optional.of(2).optFlatMap(x, optional.none()).hasValue()", False),
        ("optional.none().or(optional.of(1)).value()", 1),
        ("optional.ofNonZeroValue('').hasValue()", False),
        ("[?optional.of(1), ?optional.none()]", [1]),
        ("{?'a': optional.of(1), ?'b': optional.none()}", {"a": 1}),
        # Types and conversions.
        ("int('12') + int(3.9) + int(-3.9) + int(2u)", 14),
        ("string(1.0) + string(1e100) + string(true) + string(b'x') + string(1u)",
         "11e+100truex1"),
        ("double('1e3') + double(2)", 1002.0),
        ("bool('true') && !bool('F')", True),
        ("type(1) == int && type('') == string && type([]) == list && type(null) == null_type",
         True),
        ("type(type(1)) == type", True),
        # Times.
        ("timestamp('2024-02-29T12:00:00.5Z') - timestamp('2024-02-29T12:00:00Z')",
         Duration(500_000_000)),
        ("timestamp('2024-02-29T23:30:00Z').getDayOfWeek('+01:00')", 5),
        ("timestamp('2024-02-29T23:30:00Z').getDate() + timestamp('2024-12-31T00:00:00Z')"
         ".getDayOfYear()", 394),
        ("duration('1h30m').getMinutes() + duration('1500ms').getSeconds()", 91),
        ("string(duration('90s')) + string(timestamp(0))", "90s1970-01-01T00:00:00Z"),
        ("timestamp('2024-01-01T00:00:00+02:00') < timestamp('2024-01-01T00:00:00Z')", True),
        # Kubernetes' libraries.
        ("url('https://user@h.x:80/a%20b?q=1&q=2').getHost()", "h.x:80"),
        ("url('https://[::1]:80/a?q=1&q=2').getQuery()['q']", ["1", "2"]),
        ("url('https://[::1]:80/').getHostname() + url('/a/b').getEscapedPath()", "::1/a/b"),
        ("isURL('https://a') && !isURL('../a')", True),
        ("ip('10.0.0.1').family() + ip('::1').family()", 10),
        ("ip('127.0.0.1').isLoopback() && ip('8.8.8.8').isGlobalUnicast()", True),
        ("isIP('::ffff:1.2.3.4') || isIP('1.2.3')", False),
        ("ip.isCanonical('::1') && string(ip('0:0::1')) == '::1'", True),
        ("cidr('10.0.0.0/8').containsIP('10.1.1.1') && !isCIDR('10.0.0.0')", True),
        ("cidr('10.0.0.0/8').containsCIDR('10.3.0.0/16')", True),
        ("string(cidr('10.1.2.3/8').masked()) + string(cidr('10.1.2.3/8').prefixLength())",
         "10.0.0.0/88"),
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && isQuantity('5m')", True),
        ("quantity('1k').add(quantity('1')).sub(1).asInteger()", 1000),
        ("quantity('1.5').isInteger() || quantity('50k') != quantity('50000')", False),
        ("semver('1.2.3').compareTo(semver('1.10.0')) + semver('v1.2', true).minor()", 1),
        ("isSemver('1.2') || !isSemver('1.0.0-rc.1+b')", False),
        ("semver('1.0.0-rc.1').isLessThan(semver('1.0.0'))", True),
        ("format.dns1123Label().validate('ok').hasValue()", False),
        ("format.named('uuid').value().validate('x').value()", ["does not match the UUID format"]),
        ("format.named('nothing').hasValue()", False),
        # Bindings.
        ("cel.bind(x, n * 2, x + x)", 16),
        ("[1].map(n, n + 1)", [2]),
    ],
)  # fmt: skip
def test_value(source: str, value: Any) -> None:
    got = run(source)
    assert got == value
    assert isinstance(got, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("object.gone", "no such key: gone"),
        ("object.list[7]", "index out of bounds: 7"),
        ("5 / (n - 4)", "division by zero"),
        ("5 % (n - 4)", "modulus by zero"),
        ("9223372036854775807 + n", "integer overflow"),
        ("object.a.b + 1", "no such overload"),
        ("object.a.b.c", "no such overload"),
        ("object.a && true", "no such overload"),
        ("optional.none().value()", "optional.none() dereference"),
        ("int('x')", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("[1].all(x, object.gone == x)", "no such key: gone"),
        ("quantity('x')", "quantities must match"),
        ("uint(-1)", "unsigned integer overflow"),
        ("duration(object.a.b)", "invalid duration"),
    ],
)
def test_evaluation_error(source: str, error: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        run(source)
    assert error in str(caught.value)


@pytest.mark.parametrize(
    ("source", "at", "error"),
    [
        ("gone == 1", "1:1", "undeclared reference to 'gone' (in container '')"),
        ("n.gone()", "1:7", "undeclared reference to 'gone' (in container '')"),
        ("n.x", "1:2", "type 'int' does not support field selection"),
        ("'a' + 1", "1:5", "found no matching overload for '_+_' applied to '(string, int)'"),
        ("'a'.startsWith(1)", "1:15",
         "found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ("[1].all(x, x)", "1:8", "found no matching overload for '_&&_' applied to '(bool, int)'"),
        ("[1].filter(x, 'a')", "1:11",
         "found no matching overload for '_?_:_' applied to '(string, list(int), list(int))'"),
        ("n.all(x, true)", "1:1",
         "expression of type 'int' cannot be range of a comprehension (must be list, map, or"
         " dynamic)"),
        ("[1, 'a']", "1:5", "expected type 'int' but found 'string'"),
        ("has(n)", "1:4", "invalid argument to has() macro"),
        ("[1].all(1, true)", "1:9", "argument must be a simple name"),
        ("namespace == 1", "1:1", "reserved identifier: namespace"),
        ("n +", "1:4", "Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-',"
         " '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}"),
        ("n n", "1:3", "Syntax error: mismatched input 'n' expecting <EOF>"),
        ("n &\n 1", "1:3", "Syntax error: token recognition error at: '&'"),
        ("'a", "1:1", "Syntax error: token recognition error at: ''a'"),
        ("n == 1 &&\n  gone", "2:3", "undeclared reference to 'gone' (in container '')"),
        ("'a'.matches('(')", "1:13", "invalid matches argument"),
        ("duration('1y') == duration('1s')", "1:10", "invalid duration argument"),
    ],
)  # fmt: skip
def test_compile_error(source: str, at: str, error: str) -> None:
    with pytest.raises(CompileError) as caught:
        compile(source, ENVIRONMENT)
    assert str(caught.value).startswith(f"ERROR: <input>:{at}: {error}\n | ")


def test_the_report_points_at_the_place() -> None:
    with pytest.raises(CompileError) as caught:
        compile("n == 1 &&\n  gone", ENVIRONMENT)
    assert str(caught.value) == (
        "ERROR: <input>:2:3: undeclared reference to 'gone' (in container '')\n |   gone\n | ..^"
    )
