"""The scheduler and one turn of the cycle; every port (clock, probes, sink, recorder) is handed in."""
