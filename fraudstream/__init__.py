"""Real-time transaction fraud detection: transactions in, decisions and explained alerts out."""

import os

__version__ = "0.1.0"

# LightGBM's threads wait for one another asleep, not spinning: beside a busy worker a training of 13 s took 51 s.
# It has to be said before its library is loaded; whoever has set it keeps what they set.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
