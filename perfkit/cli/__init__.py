"""The command line: one file a command, and one place that turns errors into exit statuses."""

from perfkit.cli.app import main

__all__ = ["main"]
