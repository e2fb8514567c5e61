"""Requests of providers: proved, transformed by JavaScript in a sandbox, and made into events."""
