"""Bytes that nobody meant: what reads them says why it will not, and never anything else."""
