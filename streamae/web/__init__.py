"""Health, metrics and the live page on one port."""
