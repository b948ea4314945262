"""One file a backend: one attempt under the caller's deadline, answered with a Finding; imports `core` only."""
