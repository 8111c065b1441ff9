"""A stand-in for Horovod: the interface of 0.28.1 that a training uses, and no communication."""
