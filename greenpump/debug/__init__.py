"""Floor 3: looking at a running program. Nothing here costs a program that doesn't ask."""
