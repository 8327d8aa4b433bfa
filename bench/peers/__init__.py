"""The contestants: one file each, `<role>_<name>.py`, found by name (see `bench.registry`)."""
