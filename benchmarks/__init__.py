"""What the figures of docs/numbers.md come from: `python -m benchmarks`."""
