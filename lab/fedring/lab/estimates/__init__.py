"""What docs/encryption.md says in figures, computed from the parameters: `scripts/estimate`."""
