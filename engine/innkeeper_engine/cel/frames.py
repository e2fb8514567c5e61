"""What a compiled expression is evaluated with: a frame, the variables by name."""

from collections.abc import Callable
from typing import Any, Final

Frame = dict[str, Any]
Run = Callable[[Frame], Any]

# No variable can have such a name.
METER: Final = "\0meter"
"""Under which a frame has the `Meter` that work is charged to; only where the program is metered."""
SLOTS: Final = "\0slots"
"""Under which a frame has the values of the tree's slots, where it has any."""
