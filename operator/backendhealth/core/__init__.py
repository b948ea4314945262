"""The pure room: models, observations, reasons, verdicts, conditions. No I/O, no clock; same arguments, same answer."""
