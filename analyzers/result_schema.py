"""The JSON Schema of analysis.json, made from the types that it is written from."""

from typing import Any

import msgspec

from perfkit.analyzers.result import SCHEMA_VERSION, Analysis

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """Return the schema of this version; it accepts documents of this version only."""
    schema = msgspec.json.schema(Analysis)
    schema["$defs"]["Analysis"]["properties"]["schema_version"] = {"const": SCHEMA_VERSION}
    return {
        "$schema": DIALECT,
        "$id": f"urn:perfkit:analysis:{SCHEMA_VERSION}",
        "title": f"analysis.json of perfkit, version {SCHEMA_VERSION}",
        **schema,
    }
