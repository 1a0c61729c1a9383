"""Feeds as real plants and homes send them, written after the public documentation of each format."""
