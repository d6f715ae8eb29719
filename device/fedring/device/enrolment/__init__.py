"""How a board gets its certificate, and the next one."""
