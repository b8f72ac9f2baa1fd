"""The online ends: the micro-batch loop, what it publishes, and Faust that hosts it."""
