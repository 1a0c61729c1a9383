"""How well it detects: the protocol, the metrics, the baselines, the report."""
