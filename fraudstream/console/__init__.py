"""What people look at: alerts in a terminal, the demo."""
