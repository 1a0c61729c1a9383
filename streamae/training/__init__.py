"""From recorded rows to a calibrated artifact."""
