"""Drift: what came is held against a contract, weighed, kept as a report, and decided by a person."""
