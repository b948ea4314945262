"""Probes a platform's backends at protocol depth and says what is broken, why, and what users can't do meanwhile."""
