"""streamae: streaming anomaly detection for MQTT sensors with LSTM encoder-decoders."""

__all__ = ["__version__"]
__version__ = "0.1.0"
