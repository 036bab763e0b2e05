"""Fuzz entries over every parser of outside bytes: `python -m tests.fuzz [NAME ...] --seconds S`."""
