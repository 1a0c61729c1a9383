"""The one SQLite file: journal, snapshots, alerts, outbox."""
