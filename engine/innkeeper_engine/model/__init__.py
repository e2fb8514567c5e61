"""Plain data that the rooms of the house hand each other. Nothing here does I/O."""
