"""What can go wrong with an expression: when it is registered, and when it is evaluated."""


class ExpressionError(ValueError):
    """The text is not an expression that can be evaluated here.

    `message` says what is wrong and what would be right; `line` and `column` (both from 1) say where.
    """

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"line {line}, column {column}: {message}")
        self.message = message
        self.line = line
        self.column = column

    def __reduce__(self) -> "tuple[type[ExpressionError], tuple[str, int, int]]":
        return (ExpressionError, (self.message, self.line, self.column))


class EvaluationError(Exception):
    """CEL's error value: this data gives the expression no result (a field is missing, types do not fit)."""
