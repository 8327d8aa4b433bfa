"""Floor 2: how tasks meet. Imports the floors below, and never ``net``."""
