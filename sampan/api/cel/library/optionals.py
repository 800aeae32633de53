"""Optional values (cel-go's OptionalTypes)."""

from __future__ import annotations

from typing import Any

from ..errors import EvaluationError
from ..functions import Functions, function, method, table
from ..types import BOOL, A, optional_of
from ..values import NONE, Optional, Uint


def _of_non_zero(value: Any) -> Optional:
    zero = value is None or value is False or value == 0 or value in ("", b"", [], {})
    return NONE if zero and not isinstance(value, Uint | Optional) else Optional(value)


def _value(optional: Optional) -> Any:
    if not optional.present:
        raise EvaluationError("optional.none() dereference")
    return optional.value


def functions() -> Functions:
    maybe = optional_of(A)
    return table(
        ("optional.of", function((A,), maybe, Optional)),
        ("optional.ofNonZeroValue", function((A,), maybe, _of_non_zero)),
        ("optional.none", function((), maybe, lambda: NONE)),
        ("hasValue", method((maybe,), BOOL, lambda item: item.present)),
        ("value", method((maybe,), A, _value)),
        ("or", method((maybe, maybe), maybe, lambda item, other: item if item.present else other)),
        ("orValue", method((maybe, A), A,
                           lambda item, other: item.value if item.present else other)),
    )  # fmt: skip
