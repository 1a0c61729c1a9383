"""What goes with the daemon: demo, simulated plants, sniff, record, replay."""
