"""Verdicts on the sensors themselves, apart from the model: stale, stuck, out of range."""
