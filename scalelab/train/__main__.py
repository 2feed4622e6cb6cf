"""`python -m scalelab.train` is `scalelab train`."""

import sys

from scalelab.cli import app

app(["train", *sys.argv[1:]])
