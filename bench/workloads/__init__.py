"""What is measured: one file each, with a module-level `WORKLOAD` (see `bench.workload`)."""
