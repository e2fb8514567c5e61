"""Benchmarks of an Innkeeper server, driven from outside over HTTP."""
