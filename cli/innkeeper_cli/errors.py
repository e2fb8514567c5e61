"""What ends a role with one sentence instead of a traceback."""


class RoleError(Exception):
    """A role cannot start, or cannot go on. The message says why, and what to do where that is known."""
