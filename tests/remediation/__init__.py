"""The Remediator on a real API server: every effect is an object that is there, or is not."""
