"""Where messages come from: a broker, a recording, a simulated plant."""
