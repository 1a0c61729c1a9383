"""Simulated plants: machines, their faults, and how they are published."""
