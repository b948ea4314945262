"""Decisions on what may be done: by policy, diagnosis, history and time alone."""
