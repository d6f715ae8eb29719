"""Flashing: one payload for a board, put onto its card, sent by ssh, or built into an image."""
