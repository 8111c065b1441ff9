"""The `perfkit` command."""

from collections.abc import Sequence

import typer

from perfkit.version import __version__


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    app = typer.Typer()

    @app.command()
    def version() -> None:
        """Print the version."""
        typer.echo(__version__)

    app(arguments)
