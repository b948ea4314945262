"""Measures what probing costs: CPU for each probe, memory, punctuality and start-up, beside a bare floor."""
