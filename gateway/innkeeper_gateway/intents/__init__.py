"""Webhooks that a provider's site asks for, and somebody approves on a page of the gateway's."""
