"""What the example scripts share: flags, ranks, checkpoints, and two small data sets."""
