"""What is wrong with a board."""
