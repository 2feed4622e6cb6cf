"""The one way scalelab says no.

A user's mistake is answered with one line: what was given, what is accepted, what to try. The command line prints
that line and exits with status 2; library callers catch `Refused`. Anything else that escapes is a bug of ours.
"""

import difflib
from collections.abc import Iterable


class Refused(ValueError):
    """A request that cannot be honoured as given; `str(error)` is the whole message, in one line."""


def unknown(kind: str, given: object, accepted: Iterable[object]) -> Refused:
    """The refusal of a name that is not among the accepted ones, with the nearest spelling where there is one.

    >>> print(unknown("parametrization", "mupp", ["sp", "mup"]))
    unknown parametrization 'mupp': accepted are mup, sp; did you mean 'mup'?
    """
    names = sorted(str(name) for name in accepted)
    near = difflib.get_close_matches(str(given), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return Refused(f"unknown {kind} {str(given)!r}: accepted are {', '.join(names)}{hint}")
