"""The ground floor: a durable state machine. Pure decisions, one Redis store; no HTTP and no SDK wire format."""
