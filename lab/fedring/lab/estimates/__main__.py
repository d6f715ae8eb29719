"""Print every table of docs/encryption.md: `scripts/estimate`."""

from fedring.lab.estimates.tables import tables

for title, table in tables().items():
    print(f"{title}\n\n{table}")
