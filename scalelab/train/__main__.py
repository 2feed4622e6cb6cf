"""`python -m scalelab.train` is `scalelab train`; started by torchrun, one of the processes that train together.

    torchrun --nnodes=2 --nproc-per-node=8 … -m scalelab.train KEY=VALUE parallel=fsdp

Rank 0 is the command line, and alone reads the arguments, writes and prints; the others do what it says.
"""

import os
import sys

from scalelab.parallel import by_torchrun

if by_torchrun() and os.environ["RANK"] != "0":
    from scalelab.train import spread

    with spread.left():
        spread.take_part()
else:
    from scalelab.cli import app

    try:
        app(["train", *sys.argv[1:]])
    except SystemExit as ended:
        if by_torchrun() and not ended.code:
            from scalelab.train import spread

            spread.dismiss()
        raise
