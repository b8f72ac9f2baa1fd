"""Real-time transaction fraud detection: transactions in, decisions and explained alerts out."""

__version__ = "0.1.0"
