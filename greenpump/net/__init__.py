"""Floor 2: sockets. Imports the floors below, and never ``sync``."""
