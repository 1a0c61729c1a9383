"""The metrics of one process, and the only door to prometheus_client."""

from streamae.metrics.catalogue import CATALOGUE, PER_STREAM, Metric
from streamae.metrics.exporter import CONTENT_TYPE_LATEST, Metrics

__all__ = ["CATALOGUE", "CONTENT_TYPE_LATEST", "PER_STREAM", "Metric", "Metrics"]
