"""Where transitions go: log, MQTT, webhook."""
