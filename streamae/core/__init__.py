"""The functional core: messages in, verdicts out. NumPy only, no clock, no I/O."""
