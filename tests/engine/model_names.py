"""The names of the scheduler's nodes and limits, as the store writes them.

`fn \\x01 s|t<signature> [\\x01 limit]*` is a lane, `lane [\\x02 limit]*` a partition, `def|value` a limit: a throttle
when it begins with `t`. A signature that begins with `p` says that the function's runs have priorities.
"""


def item_name(number: int) -> str:
    """The n-th item that was added: the first one of the n-th run."""
    return f"R{number:03}.0"


def number_of(item: str) -> int:
    """The reverse of `item_name`."""
    return int(item[1:-2])


def lane_of(partition: str) -> str:
    """The lane of a partition."""
    return partition.partition("\x02")[0]


def fn_of(lane: str) -> str:
    """The function of a lane."""
    return lane.partition("\x01")[0]


def kind_of(lane: str) -> str:
    """Whether a lane is of starts (s) or of further steps (t)."""
    return lane.split("\x01")[1][:1]


def signature_of(lane: str) -> str:
    """The keys under which a lane's items were queued."""
    return lane.split("\x01")[1][1:]


def signed(partition: str, signature: str) -> str:
    """The same partition under other keys."""
    lane = lane_of(partition)
    fn, kind, *limits = lane.split("\x01")
    return "\x01".join([fn, kind[:1] + signature, *limits]) + partition[len(lane) :]


def has_priority(lane: str) -> bool:
    """Whether the items of a lane have priorities."""
    return signature_of(lane).startswith("p")


def lane_limits(lane: str) -> list[str]:
    """The limits that hold for everything in a lane; two come without being named."""
    fn, kind, *named = lane.split("\x01")
    return [f"c|{fn}", *([f"t|{fn}"] if kind.startswith("s") else []), *named]


def partition_limits(partition: str) -> list[str]:
    """The limits of one partition alone."""
    return partition.split("\x02")[1:]


def all_limits(partition: str) -> list[str]:
    """Every limit under which an item of a partition is leased."""
    return lane_limits(lane_of(partition)) + partition_limits(partition)


def def_of(limit: str) -> str:
    """The name under which a function has its cap for a limit."""
    return limit.partition("|")[0]


def is_throttle(limit: str) -> bool:
    """Whether a limit is about starts in time rather than about items at once."""
    return limit.startswith("t")


OWN = ("c", "t")
"""The limits that every function has without naming them; each is named after it."""


def fn_of_own(limit: str) -> str:
    """The function whose own limit this is."""
    return limit.partition("|")[2]
