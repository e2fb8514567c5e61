"""Routes events to runs, leases work, calls apps."""
