"""The figures of README.md and the other pages, each from a result in `benchmarks/results/`."""
