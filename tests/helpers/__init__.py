"""Parts of tests that the demo and the benchmarks use too; nothing here needs pytest."""
