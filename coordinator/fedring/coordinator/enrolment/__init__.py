"""Requests of boards that have no certificate yet, on their way to the owner and back."""
