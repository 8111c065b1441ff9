"""The change for good: a diff that `git apply` takes, and that still is a program."""

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

from perfkit.recipes.activation import parse
from perfkit.recipes.catalogue import BY_ID
from perfkit.recipes.source_change import source_change
from perfkit.recipes.source_edit import give_keywords, succeed_assignment, wrap_statement
from perfkit.trace.recipe_log import Applied, RecipeLog

EXAMPLES = Path(__file__).parents[2] / "examples"


def line_of(path: Path, text: str) -> int:
    lines = path.read_text().splitlines()
    return next(n for n, line in enumerate(lines, 1) if text in line)


def log_of(recipe: str, path: Path, line: int, new: object = True) -> RecipeLog:
    applied = Applied(
        recipe=recipe,
        rank=0,
        setting="num_workers" if recipe == "loader" else "setting",
        old=None,
        new=new,
        step=0,
        file=str(path),
        line=line,
    )
    return RecipeLog(applied=(applied,), refused=(), seen={})


CASES = (
    ("ddp-buckets:mb=4", "common/ranks.py", "return DistributedDataParallel", "bucket_cap_mb=4"),
    ("bucket-view", "common/ranks.py", "return Distr", "gradient_as_bucket_view=True"),
    ("static-graph", "common/ranks.py", "return Distr", "static_graph=True"),
    ("bf16-gradients", "common/ranks.py", "return Distr", "register_comm_hook(None, bf16_gra"),
    ("powersgd", "common/ranks.py", "return Distr", "PowerSGDState(None, 2,"),
    ("compile", "common/ranks.py", "return Distr", "module.compile()"),
    ("loader", "common/batches.py", "loader = DataLoader(", "num_workers=3"),
    ("fused-optimizer", "train_gpt_ddp.py", "torch.optim.AdamW", "fused=True"),
    ("amp-bf16", "train_gpt_ddp.py", "loss = model(", "    loss = model(tokens, targets)"),
    ("amp-bf16", "train_cnn_ddp.py", "loss: Tensor", "with torch.autocast("),
    ("tf32", "train_gpt_ddp.py", "loss = model(", "set_float32_matmul_precision"),
)


@pytest.mark.parametrize(("text", "file", "place", "added"), CASES)
def test_the_diff_for_an_example_applies_with_git(
    tmp_path: Path, text: str, file: str, place: str, added: str
) -> None:
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("*cache*"))
    path = tmp_path / "examples" / file
    (choice,) = parse(text, BY_ID)
    log = log_of(choice.recipe.id, path, line_of(path, place), new=3)
    change = source_change(choice, log, tmp_path)
    assert change.diff.startswith(f"--- a/examples/{file}\n+++ b/examples/{file}\n")
    done = subprocess.run(
        ["git", "apply", "-"],
        input=change.diff,
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr + change.diff
    after = path.read_text()
    assert added in after
    ast.parse(after)


def test_without_a_known_place_there_is_a_snippet() -> None:
    (choice,) = parse("ddp-buckets:mb=2", BY_ID)
    change = source_change(choice, RecipeLog(applied=(), refused=(), seen={}), Path("/"))
    assert change.diff == "" and "bucket_cap_mb=2" in change.snippet


def test_a_recipe_without_an_edit_names_file_and_line(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("for p in model.parameters():\n    dist.all_reduce(p.grad)\n")
    (choice,) = parse("overlap", BY_ID)
    change = source_change(choice, log_of("overlap", script, 2), tmp_path)
    assert (change.diff, change.file, change.line) == ("", str(script), 2)
    assert "DistributedDataParallel" in change.snippet


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("m = DDP(a)\n", "m = DDP(a, x=1)\n"),
        ("m = DDP()\n", "m = DDP(x=1)\n"),
        ("m = DDP(a, x=9)\n", "m = DDP(a, x=1)\n"),
        ("m = torch.DDP(a, y=f(2),)  # why\n", "m = torch.DDP(a, y=f(2), x=1,)  # why\n"),
        ("m = DDP(\n    a,\n    y=2,\n)\n", "m = DDP(\n    a,\n    y=2,\n    x=1,\n)\n"),
        ('m = DDP("ä", a)\n', 'm = DDP("ä", a, x=1)\n'),
    ],
)
def test_a_keyword_is_given_where_it_belongs(before: str, after: str) -> None:
    assert give_keywords(before, 1, ("DDP",), {"x": "1"}) == after


def test_what_is_not_there_is_not_changed() -> None:
    assert give_keywords("m = other(a)\n", 1, ("DDP",), {"x": "1"}) is None
    assert give_keywords("m = DDP(DDP(a))\n", 1, ("DDP",), {"x": "1"}) is None
    assert wrap_statement("for i in x: pass\n", 2, "with a:") is None
    assert succeed_assignment("f(DDP(a))\n", 1, ("DDP",), "b", "m") is None
    assert succeed_assignment("m = f(DDP(a)) if c else a\n", 1, ("DDP",), "b", "m") is None


def test_what_is_done_to_a_model_that_may_be_wrapped_asks_whether_it_is() -> None:
    source = "def f(c, a):\n    m = nn.DDP(a) if c else a\n    return m\n"
    after = succeed_assignment(source, 2, ("DDP",), "def hook():\n    pass\n\n{name}.on(hook)", "m")
    assert after == (
        "def f(c, a):\n    m = nn.DDP(a) if c else a\n    if isinstance(m, nn.DDP):\n"
        "        def hook():\n            pass\n\n        m.on(hook)\n    return m\n"
    )
