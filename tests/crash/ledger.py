"""What the app saw and did, in the order in which it happened."""

import dataclasses
from typing import Any


@dataclasses.dataclass(slots=True)
class Request:
    """One call of the server to the app."""

    at: int
    """Place in the ledger's order."""
    slug: str
    run: str
    target: str
    """`step`, or the hashed id of the one step that is asked for."""
    item: str
    generation: int
    request_id: str
    """The lease's token."""
    attempt: int
    steps: dict[str, Any]
    """Memoised results by hashed step id."""
    stack: tuple[str, ...]
    event: dict[str, Any]
    answer: str = ""
    """How the app answered: `200`, `206 StepRun` and the like; empty while it has not."""

    @property
    def age(self) -> tuple[int, int]:
        """Orders the leases of a function without parallel steps: its items are numbered, their leases too."""
        return int(self.item.rpartition(".")[2]), self.generation


@dataclasses.dataclass(slots=True)
class Execution:
    """One run of a step's body: a side effect."""

    at: int
    run: str
    step: str
    name: str
    nonce: str
    request_id: str


@dataclasses.dataclass(slots=True)
class Checkpoint:
    """A step result that the server acknowledged while the call went on."""

    at: int
    run: str
    step: str
    nonce: str
    request_id: str


class Ledger:
    """Everything, numbered."""

    def __init__(self) -> None:
        self._count = 0
        self.requests: list[Request] = []
        self.executions: list[Execution] = []
        self.checkpoints: list[Checkpoint] = []
        self.refused_checkpoints = 0
        self.oddities: list[str] = []
        """What no server that keeps the protocol makes an app see."""

    def next(self) -> int:
        """The number of what happens now."""
        self._count += 1
        return self._count

    def requests_of(self, run: str) -> list[Request]:
        """The calls of one run, in order."""
        return [request for request in self.requests if request.run == run]

    def executions_of(self, run: str, name: str | None = None) -> list[Execution]:
        """The bodies that ran in one run, in order."""
        return [e for e in self.executions if e.run == run and name in (None, e.name)]
