"""Transforms of webhooks, run where they can do nothing but calculate: `pool.Sandbox`."""
