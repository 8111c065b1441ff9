"""`perfkit schema`: what analysis.json may hold, for programs that read it."""

from perfkit.cli import console


def command() -> None:
    """Print the JSON Schema of analysis.json, the file that `analyze` and `profile` write.

    Example: perfkit schema > analysis.schema.json
    """
    from perfkit.analyzers.result_schema import json_schema

    console.tell_json(json_schema())
    console.suggest("perfkit analyze RUN --json prints a document of this schema")
