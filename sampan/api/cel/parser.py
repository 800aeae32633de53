"""Tokens into a tree: CEL's grammar by recursive descent, with operator precedence.

Bounds: `lexer.MAX_SOURCE` characters, `MAX_DEPTH` levels. `&&` and `||` of many terms become
balanced trees, as in cel-go, so that long conjunctions are not deep.
"""

from __future__ import annotations

from .errors import CompileError, Issue
from .lexer import MAX_SOURCE, LexicalError, Token, tokens_of
from .macros import expand
from .nodes import Call, Literal, MakeList, MakeMap, MakeObject, Name, Node, Select

MAX_DEPTH = 250
"""Levels of nesting, as cel-go: what is deeper would not fit the stack that evaluates it."""

BINARY = {
    "*": (5, "_*_"), "/": (5, "_/_"), "%": (5, "_%_"),
    "+": (4, "_+_"), "-": (4, "_-_"),
    "<": (3, "_<_"), "<=": (3, "_<=_"), ">": (3, "_>_"), ">=": (3, "_>=_"),
    "==": (3, "_==_"), "!=": (3, "_!=_"), "in": (3, "@in"),
    "&&": (2, "_&&_"), "||": (1, "_||_"),
}  # fmt: skip
RESERVED = frozenset({
    "as", "break", "const", "continue", "else", "false", "for", "function", "if", "import",
    "in", "let", "loop", "package", "namespace", "null", "return", "true", "var", "void",
    "while",
})  # fmt: skip
WORDS = {"true": True, "false": False, "null": None}
BEGINNINGS = (
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT,"
    " STRING, BYTES, IDENTIFIER}"
)
INT_MAX = (1 << 63) - 1


class Stop(Exception):
    """The syntax error that ends parsing."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.issue = Issue(offset, message)


def parse(source: str) -> Node:
    """The tree of an expression. Raises CompileError."""
    if len(source) > MAX_SOURCE:
        text = f"expression code point size exceeds limit: size: {len(source)}, limit {MAX_SOURCE}"
        raise CompileError("", [Issue(0, text)])
    try:
        return Parser(tokens_of(source)).whole()
    except (Stop, LexicalError) as error:
        raise CompileError(source, [error.issue]) from None
    except RecursionError:
        raise CompileError(source, [Issue(0, _too_deep())]) from None


def _too_deep() -> str:
    return f"expression recursion limit exceeded: {MAX_DEPTH}"


class Parser:
    """One pass over the tokens of one expression."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0

    @property
    def token(self) -> Token:
        return self._tokens[self._next]

    def whole(self) -> Node:
        node = self.expression()
        if self.token.kind != "end":
            raise Stop(
                self.token.offset,
                f"Syntax error: mismatched input '{self.token.text}' expecting <EOF>",
            )
        return node

    def take(self) -> Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def at(self, text: str) -> bool:
        token = self._tokens[self._next]
        return token.text == text and token.kind in ("op", "name")

    def skip(self, text: str) -> bool:
        if self.at(text):
            self._next += 1
            return True
        return False

    def expect(self, text: str) -> Token:
        if not self.at(text):
            token = self.token
            raise Stop(
                token.offset,
                f"Syntax error: mismatched input '{token.text}' expecting '{text}'",
            )
        return self.take()

    def deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Stop(self.token.offset, _too_deep())

    def expression(self) -> Node:
        """A conditional, or what binds tighter."""
        self.deeper()
        node = self.binary(1)
        if self.at("?"):
            mark = self.take()
            first = self.binary(1)
            self.expect(":")
            second = self.expression()
            node = Call(mark.offset, "_?_:_", None, (node, first, second))
        self._depth -= 1
        return node

    def binary(self, lowest: int) -> Node:
        left, chain = self.unary(), 0
        while True:
            token = self.token
            row = BINARY.get(token.text) if token.kind in ("op", "name") else None
            if row is None or row[0] < lowest:
                break
            level, function = row
            if level <= 2:
                left = self.logical(left, token.text, level, function)
                continue
            self.take()
            chain += 1
            self.deeper()
            left = Call(token.offset, function, None, (left, self.binary(level + 1)))
        self._depth -= chain
        return left

    def logical(self, first: Node, text: str, level: int, function: str) -> Node:
        terms, offsets = [first], []
        while self.at(text):
            offsets.append(self.take().offset)
            terms.append(self.binary(level + 1))
        return _balanced(function, terms, offsets, 0, len(terms) - 1)

    def unary(self) -> Node:
        if not (self.at("!") or self.at("-")):
            return self.member()
        text, offset, count = self.token.text, self.token.offset, 0
        while self.skip(text):
            count += 1
        if text == "-" and self.token.kind in ("int", "float") and count == 1:
            return self.member(negative=offset)
        if self.at("!") or self.at("-"):
            raise self.unexpected()
        operand = self.member()
        if count % 2 == 0:
            return operand
        return Call(offset, "!_" if text == "!" else "-_", None, (operand,))

    def member(self, negative: int | None = None) -> Node:
        node, chain = self.primary(negative), 0
        while self.token.kind == "op" and self.token.text in (".", "["):
            mark = self.take()
            chain += 1
            self.deeper()
            if mark.text == "[":
                optional = self.skip("?")
                index = self.expression()
                self.expect("]")
                node = Call(mark.offset, "_[?_]" if optional else "_[_]", None, (node, index))
                continue
            optional = self.skip("?")
            name = self.take()
            if name.kind != "name" or name.text in ("in", "true", "false", "null"):
                raise Stop(
                    name.offset,
                    f"Syntax error: no viable alternative at input '.{_shown(name)}'",
                )
            if self.at("(") and not optional:
                paren = self.take()
                args = self.arguments(")")
                node = expand(paren.offset, name.text, node, args, Stop)
            else:
                node = Select(mark.offset, node, name.text, optional)
        self._depth -= chain
        return node

    def primary(self, negative: int | None) -> Node:
        token = self.take()
        kind, text = token.kind, token.text
        if kind == "int":
            value = -token.value if negative is not None else token.value
            if not -INT_MAX - 1 <= value <= INT_MAX:
                raise Stop(token.offset, "invalid int literal")
            return Literal(token.offset if negative is None else negative, value)
        if kind == "float":
            value = -token.value if negative is not None else token.value
            return Literal(token.offset if negative is None else negative, value)
        if kind in ("string", "bytes", "uint"):
            return Literal(token.offset, token.value)
        if kind == "op":
            if text == "(":
                node = self.expression()
                self.expect(")")
                return node
            if text == "[":
                return self.list_literal(token.offset)
            if text == "{":
                return MakeMap(token.offset, self.entries())
            if text == "." and self.token.kind == "name":
                return self.named(self.take(), ".")
        if kind == "name" and text != "in":
            if text in WORDS:
                return Literal(token.offset, WORDS[text])
            return self.named(token, "")
        self._next -= 1
        raise self.unexpected()

    def named(self, token: Token, root: str) -> Node:
        if self.at("("):
            paren = self.take()
            args = self.arguments(")")
            return expand(paren.offset, token.text, None, args, Stop)
        if token.text in RESERVED:
            raise Stop(token.offset, f"reserved identifier: {token.text}")
        found = self.object_literal(token)
        return Name(token.offset, root + token.text) if found is None else found

    def object_literal(self, token: Token) -> Node | None:
        """`a.b.Name{...}`: only if braces follow the dotted name."""
        position, parts = self._next, [token.text]
        while self._tokens[position].text == "." and self._tokens[position + 1].kind == "name":
            parts.append(self._tokens[position + 1].text)
            position += 2
        if self._tokens[position].text != "{" or self._tokens[position].kind != "op":
            return None
        self._next = position
        brace = self.take()
        out: list[tuple[str, Node, bool]] = []
        while not self.at("}"):
            optional = self.skip("?")
            name = self.take()
            if name.kind != "name":
                raise Stop(
                    name.offset,
                    f"Syntax error: mismatched input '{name.text}' expecting IDENTIFIER",
                )
            self.expect(":")
            out.append((name.text, self.expression(), optional))
            if not self.skip(","):
                break
        self.expect("}")
        return MakeObject(brace.offset, ".".join(parts), out)

    def arguments(self, end: str) -> list[Node]:
        args: list[Node] = []
        if self.skip(end):
            return args
        args.append(self.expression())
        while self.skip(","):
            args.append(self.expression())
        self.expect(end)
        return args

    def list_literal(self, offset: int) -> Node:
        items: list[Node] = []
        optional: set[int] = set()
        while not self.at("]"):
            if self.skip("?"):
                optional.add(len(items))
            items.append(self.expression())
            if not self.skip(","):
                break
        self.expect("]")
        return MakeList(offset, items, frozenset(optional))

    def entries(self) -> list[tuple[Node, Node, bool]]:
        out: list[tuple[Node, Node, bool]] = []
        while not self.at("}"):
            optional = self.skip("?")
            key = self.expression()
            self.expect(":")
            out.append((key, self.expression(), optional))
            if not self.skip(","):
                break
        self.expect("}")
        return out

    def unexpected(self) -> Stop:
        token = self.token
        return Stop(
            token.offset,
            f"Syntax error: mismatched input '{token.text}' expecting {BEGINNINGS}",
        )


def _shown(token: Token) -> str:
    return "" if token.kind == "end" else token.text


def _balanced(function: str, terms: list[Node], offsets: list[int], low: int, high: int) -> Node:
    if low == high:
        return terms[low]
    middle = (low + high) // 2
    left = _balanced(function, terms, offsets, low, middle)
    right = _balanced(function, terms, offsets, middle + 1, high)
    return Call(offsets[middle], function, None, (left, right))
