"""Any command line as the trainer of a run: its templates filled, its process watched, its losses read.

`run` trains one run; `check` says before any is paid for what would be refused; `shown` is the command as one would
type it. A command is launched again, with the same {checkpoint} folder, where it had not ended: how it goes on from
there is its own business.
"""

from scalelab.command.render import Place, Rendered, check, rendered, shown
from scalelab.command.running import CommandFailed, run

__all__ = ["CommandFailed", "Place", "Rendered", "check", "rendered", "run", "shown"]
