"""Floor 1: who runs next. Imports only ``greenpump.sys`` and ``greenpump.errors``."""
