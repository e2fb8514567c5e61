"""How often a role looks for objects that hold each other, which Python's collector does while everybody waits."""

import gc
from typing import Final

YOUNG: Final = 10_000
"""So many new objects before it looks, instead of 700. A request in flight is some 40, none of which hold each other
once it has ended: with a thousand in flight each look took 10 to 30 ms and found nothing."""


def settle() -> None:
    """Leave out from now on what is there already: modules, which stay, and took 70 to 130 ms of each long look."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
