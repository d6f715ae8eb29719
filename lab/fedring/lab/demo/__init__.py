"""`fedring demo`: a whole fleet on this machine, as real processes, learning from real data."""
