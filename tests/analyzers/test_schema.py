"""The schema refuses what is no analysis of this version: that others fit means something."""

import copy
import json
from typing import Any

import pytest
from fastjsonschema import JsonSchemaException
from fastjsonschema import compile as jsonschema_of

from perfkit.analyzers import analysis
from perfkit.analyzers.result_schema import json_schema
from tests.builders import op, rank_trace, run_of, step, step_lines
from tests.conftest import draft_7


@pytest.fixture
def document() -> dict[str, Any]:
    marks = [item for i in range(4) for item in (step(i, at_ms=10 * i, ms=10),)]
    trace = rank_trace(*marks, op("aten::mm", at_ms=5, ms=3), device_kind="cpu")
    run, load = run_of(trace, lines={0: step_lines([10.0] * 4)})
    made: dict[str, Any] = json.loads(analysis.encode(analysis.analyze(run, load)))
    return made


def test_an_analysis_fits_and_a_changed_one_does_not(document: dict[str, Any]) -> None:
    fits = jsonschema_of(draft_7(json_schema()))
    fits(document)
    for path, value in (
        (("schema_version",), 0),
        (("verdict",), None),
        (("budget", "rollup", "compute"), None),  # what NaN becomes in JSON
        (("world", "size"), "2"),
    ):
        changed = copy.deepcopy(document)
        part = changed
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        with pytest.raises(JsonSchemaException):
            fits(changed)
