"""The expression language of triggers, waits, cancellations and keys: CEL over the JSON of events.

`compile_expression` checks and compiles once; an `Expression` is then evaluated in about a microsecond.
`bind` turns the expression of a wait or a cancellation into an index entry and what is left to check.
"""

from innkeeper_engine.cel.bound import Bound, bind, index_value
from innkeeper_engine.cel.errors import EvaluationError, ExpressionError
from innkeeper_engine.cel.expression import VARIABLES, Expression, compile_expression
from innkeeper_engine.cel.parser import MAX_DEPTH, MAX_LENGTH, MAX_MACRO_DEPTH

__all__ = [
    "MAX_DEPTH",
    "MAX_LENGTH",
    "MAX_MACRO_DEPTH",
    "VARIABLES",
    "Bound",
    "EvaluationError",
    "Expression",
    "ExpressionError",
    "bind",
    "compile_expression",
    "index_value",
]
