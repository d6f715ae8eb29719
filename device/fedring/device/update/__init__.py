"""Putting newer software onto a board, and going back when it does not hold."""
