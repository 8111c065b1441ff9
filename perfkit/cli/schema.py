"""`perfkit schema`: what analysis.json may hold, for programs that read it."""

import json

from perfkit.cli import console


def command() -> None:
    """Print the JSON Schema of analysis.json, the file that `analyze` and `profile` write.

    Example: perfkit schema > analysis.schema.json
    """
    import msgspec

    from perfkit.analyzers.result import Analysis

    print(json.dumps(msgspec.json.schema(Analysis), indent=2))
    console.suggest("perfkit analyze RUN --json prints a document of this schema")
