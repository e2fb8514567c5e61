"""Talks to applications: the SDK wire format on one side, the engine's data on the other."""
