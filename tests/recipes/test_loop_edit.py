"""Edits of training loops: what DDP, one flat all-reduce or no_sync stand for, and when not."""

import ast
import subprocess
from pathlib import Path
from textwrap import dedent

import pytest

from perfkit.recipes.activation import parse
from perfkit.recipes.catalogue import BY_ID
from perfkit.recipes.loop_edit import exchange_last, merge_all_reduces, overlap_by_ddp
from perfkit.recipes.source_change import source_change
from perfkit.trace.recipe_log import Applied, RecipeLog

TRAINING = Path(__file__).parents[1] / "truth" / "two_bottlenecks.py"

BY_HAND = """\
import torch
import torch.distributed as dist
model = Net().to(device)
for batch in loader:
    loss = model(batch).sum()
    loss.backward()
    for p in model.parameters():
        dist.all_reduce(p.grad, op=dist.ReduceOp.SUM)
        p.grad /= dist.get_world_size()
    optimizer.step()
torch.save(model.state_dict(), path)
"""
HELPER = """\
import torch.distributed as dist
def average(net):
    "Average the gradients."
    ranks = dist.get_world_size()
    for p in net.parameters():
        if p.grad is None:
            continue
        dist.all_reduce(p.grad.data)
        p.grad.data.div_(ranks)
def train(model):
    for batch in loader:
        loss(model(batch), model).backward()
        average(model)
        optimizer.step()
        with torch.no_grad():
            print(model(other))
train(Net())
"""


def line_of(source: str, text: str) -> int:
    return next(n for n, line in enumerate(source.splitlines(), 1) if text in line)


def overlap(source: str) -> str | None:
    return overlap_by_ddp(source, line_of(source, "dist.all_reduce("), 2.0)


def test_ddp_stands_for_the_loop_and_the_model_keeps_its_name() -> None:
    assert overlap(BY_HAND) == dedent("""\
        import torch
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel
        model = Net().to(device)
        ddp = DistributedDataParallel(model, bucket_cap_mb=2, broadcast_buffers=False)
        for batch in loader:
            loss = ddp(batch).sum()
            loss.backward()
            optimizer.step()
        torch.save(model.state_dict(), path)
        """)


def test_the_call_of_a_function_that_averages_goes() -> None:
    after = overlap(HELPER)
    assert after is not None and "        average(model)\n" not in after
    assert "    ddp = DistributedDataParallel(model, bucket_cap_mb=2, broad" in after
    assert "loss(ddp(batch), model).backward()" in after
    assert "print(model(other))" in after, "an evaluation, which one rank alone may make"


def test_a_fixed_condition_becomes_that_of_the_wrapping() -> None:
    loop = line_of(BY_HAND, "for p in") - 1
    lines = BY_HAND.splitlines()
    guarded = [f"    {text}" for text in lines[loop : loop + 3]]
    source = "\n".join([*lines[:loop], "    if ranks > 1:", *guarded, *lines[loop + 3 :], ""])
    after = overlap(source)
    assert after is not None and "ddp = model\nif ranks > 1:\n    ddp = Distrib" in after
    assert "    if ranks > 1:\n" not in after.split("for batch")[1]
    assert overlap(source.replace("if ranks > 1", "if batch.last")) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("        p.grad /= dist.get_world_size()\n", ""),  # a sum, which DDP does not make
        ("dist.get_world_size()", "len(batch)"),
        ("op=dist.ReduceOp.SUM", "group=pair"),
        ("dist.ReduceOp.SUM", "dist.ReduceOp.MAX"),
        ("        p.grad /=", "        log(p.grad)\n        p.grad /="),
        ("    loss = model(batch).sum()", "    loss = forward(batch)"),
        ("model = Net().to(device)\nfor", "for"),  # made elsewhere
        ("    loss = model", "    model = fresh()\n    loss = model"),
        ("for p in model.parameters()", "for p in list(params)"),
        ("dist.all_reduce(p.grad,", "work = dist.all_reduce(p.grad,"),
    ],
)
def test_what_ddp_would_not_do_the_same_way_is_left_alone(before: str, after: str) -> None:
    assert before in BY_HAND
    source = BY_HAND.replace(before, after)
    ast.parse(source)
    assert overlap(source) is None


def test_a_helper_that_does_more_or_is_called_per_epoch_stays() -> None:
    assert overlap(HELPER.replace("    ranks = ", "    clip(net)\n    ranks = ")) is None
    assert overlap(HELPER.replace("train(Net())", "for _ in epochs: train(net)")) is None


def test_one_flat_all_reduce_stands_before_what_else_the_loop_does() -> None:
    after = merge_all_reduces(BY_HAND, line_of(BY_HAND, "dist.all_reduce("))
    assert after is not None and after.split("loss.backward()\n")[1] == (
        "    gradients = [p.grad for p in model.parameters() if p.grad is not None]\n"
        "    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])\n"
        "    dist.all_reduce(flat, op=dist.ReduceOp.SUM)\n"
        "    sizes = [gradient.numel() for gradient in gradients]\n"
        "    for gradient, part in zip(gradients, flat.split(sizes)):\n"
        "        gradient.copy_(part.view_as(gradient))\n"
        "    for p in model.parameters():\n"
        "        p.grad /= dist.get_world_size()\n"
        "    optimizer.step()\n"
        "torch.save(model.state_dict(), path)\n"
    )
    alone = BY_HAND.replace("        p.grad /= dist.get_world_size()\n", "")
    after = merge_all_reduces(alone, line_of(alone, "dist.all_reduce("))
    assert after is not None and "for p in model.parameters():\n" not in after
    named = BY_HAND.replace("batch", "flat")
    assert merge_all_reduces(named, line_of(named, "dist.all_reduce(")) is None


LOOPS = (
    (
        "for i, x in enumerate(loader):\n    loss = net(x)\n    loss.backward()\n"
        "    if (i + 1) % 4 == 0:\n        optimizer.step()\n",
        "    with net.no_sync() if not ((i + 1) % 4 == 0) else nullcontext():\n"
        "        loss = net(x)\n        loss.backward()\n    if",
    ),
    (
        "for i in range(k + 1):\n    f(net(x)).backward()\noptimizer.step()\n",
        "    with net.no_sync() if i < (k + 1) - 1 else nullcontext():\n        f(net(x)).b",
    ),
    (
        "for i, x in enumerate(parts):\n    f(net(x)).backward()\noptimizer.step()\n",
        "with net.no_sync() if i < len(parts) - 1 else nullcontext():",
    ),
    (
        "for i, x in enumerate(loader):\n    net(x).backward()\n    if i % 4:\n"
        "        continue\n    optimizer.step()\n",
        "with net.no_sync() if i % 4 else nullcontext():",
    ),
)


@pytest.mark.parametrize(("source", "expected"), LOOPS)
def test_all_micro_batches_but_the_last_are_under_no_sync(source: str, expected: str) -> None:
    after = exchange_last(source, line_of(source, "net("), "net")
    assert after is not None and expected in after
    assert after.startswith("from contextlib import nullcontext\n")
    ast.parse(after)


@pytest.mark.parametrize(
    "source",
    [
        "for x in parts:\n    net(x).backward()\noptimizer.step()\n",  # nothing counts
        "for x in xs:\n    net(x).backward()\n    n += 1\n    if n % 4 == 0:\n        o.step()\n",
        "for i in range(4):\n    loss = net(x)\n    later(loss)\n",
        "for i in range(4):\n    a = net(x) + net(y)\n    a.backward()\n",
    ],
)
def test_where_the_last_micro_batch_is_not_known_nothing_is_written(source: str) -> None:
    assert exchange_last(source, line_of(source, "net("), "net") is None


SEEN: tuple[tuple[str, str, str, str], ...] = (
    ("overlap:mb=4", "dist.all_reduce(", "6 all-reduces of one gradient each", ""),
    ("coalesce", "dist.all_reduce(", "6 all-reduces of one gradient each", ""),
    ("no-sync", "loss = (model", "4", "model"),
)


@pytest.mark.parametrize(("text", "place", "old", "name"), SEEN)
def test_the_diff_of_a_loop_applies_with_git(
    tmp_path: Path, text: str, place: str, old: str, name: str
) -> None:
    script = tmp_path / "train.py"
    script.write_text(TRAINING.read_text())
    (choice,) = parse(text, BY_ID)
    applied = Applied(
        recipe=choice.recipe.id,
        rank=0,
        setting="gradients",
        old=old,
        new="",
        step=3,
        file=str(script),
        line=line_of(script.read_text(), place),
        name=name,
    )
    log = RecipeLog(applied=(applied,), refused=(), seen={"parameter_tensors": 6})
    diff = source_change(choice, log, tmp_path).diff
    unused = RecipeLog(applied=(applied,), refused=(), seen={"parameter_tensors": 7})
    left = source_change(choice, unused, tmp_path).diff
    assert (left == "") == (choice.recipe.id == "overlap"), "DDP wants every parameter's gradient"
    done = subprocess.run(
        ["git", "apply", "-"], input=diff, cwd=tmp_path, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr + diff
    ast.parse(script.read_text())
    assert script.read_text() != TRAINING.read_text()
