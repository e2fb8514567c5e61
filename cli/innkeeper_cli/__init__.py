"""The roof: the `innkeeper` command."""
