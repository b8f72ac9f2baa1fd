"""Where bytes come from and go to: Kafka, memory, files."""
