"""Imported by the process from which workers are forked: what they need is imported once for all of them.

No thread and no CUDA context is made here: a fork would not carry them over.
"""

import gc
import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; who asked for the work answers it

import torch._dynamo  # noqa: E402, F401  (2 s that a worker's first optimizer would take, which imports it)

import scalelab.jobs  # noqa: E402
import scalelab.train  # noqa: E402, F401

gc.collect()
gc.freeze()  # a collection in a worker would touch, and so copy, every page
