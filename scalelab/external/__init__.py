"""A trainer that is not ours: any command line, stated as templates, and how its losses are read.

Here is what stands in a run's specification; what renders and runs it is `scalelab.command`.
"""

from scalelab.external.backwards import command_overrides
from scalelab.external.kinds import Command, Reading, compiled, from_plain_command, refuse_control
from scalelab.external.stated import command_of

__all__ = [
    "READ",
    "Command",
    "Reading",
    "command_of",
    "command_overrides",
    "compiled",
    "from_plain_command",
    "refuse_control",
]
