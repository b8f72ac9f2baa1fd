"""The same job in other frameworks, each as a competent user of it would write it: `python -m benchmarks.peers`."""
