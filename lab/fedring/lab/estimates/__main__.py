"""Print every table of docs/encryption.md: `scripts/estimate [--measure]`."""

import click

from fedring.lab.estimates.tables import measured, tables


@click.command()
@click.option("--measure", is_flag=True, help="Look at this machine's rounding errors as well.")
def main(measure: bool) -> None:
    """Compute the tables of docs/encryption.md from the parameters in the code.

    Example: scripts/estimate --measure
    """
    for title, table in tables().items():
        click.echo(f"{title}\n\n{table}")
    if measure:
        click.echo(f"Rounding errors of this machine\n\n{measured()}")


if __name__ == "__main__":
    main()
