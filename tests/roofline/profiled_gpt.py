"""Child process: profile steps of the GPT that examples/train_gpt_ddp.py trains, print its size.

Arguments: trace, words, length, layers, heads, width, dropout, samples, micro-batches.
"""

import importlib
import sys
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def main() -> None:
    """Train three steps, record the last two with shapes."""
    out, *sizes, dropout, samples, micro_batches = sys.argv[1:]
    words, length, layers, heads, width = map(int, sizes)
    sys.path.insert(0, str(EXAMPLES))
    gpt = importlib.import_module("common.gpt")
    torch.manual_seed(0)
    model = gpt.GPT(gpt.GPTConfig(words, length, layers, heads, width, float(dropout)))
    optimizer = torch.optim.AdamW(model.parameters())
    tokens = torch.randint(words, (int(samples), length))
    with profile(
        activities=[ProfilerActivity.CPU],
        schedule=schedule(wait=0, warmup=1, active=2),
        on_trace_ready=lambda profiler: profiler.export_chrome_trace(out),
        record_shapes=True,
    ) as profiler:
        for _ in range(3):
            for _ in range(int(micro_batches)):
                model(tokens, tokens).backward()
            optimizer.step()
            optimizer.zero_grad()
            profiler.step()
    print(sum(parameter.numel() for parameter in model.parameters()))


if __name__ == "__main__":
    main()
