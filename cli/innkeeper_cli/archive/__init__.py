"""Writes what is over away: events and ended runs, as files that whoever reads Parquet or JSON can read."""
