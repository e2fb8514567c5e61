"""What can go wrong on the way to the cluster."""


class ApiError(Exception):
    """The API server refused a request, or did not answer.

    `status`: the HTTP status, 0 where there was no answer. `reason`: the API server's word for it, such as
    `AlreadyExists`.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class OperatorStoppedError(Exception):
    """The operator cannot go on and must be started anew; the message says why."""
