"""What the benchmarks sell: two models that are alike but for a trigger, and a few bare views."""
