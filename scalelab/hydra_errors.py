"""What escapes Hydra, told by us: Ctrl-C as what it is, a full disk and a refusal in one line, the rest as it is.

By itself Hydra prints what escapes it with a traceback and ends with 1, unless the environment asks for the whole of
it: then it raises.
"""

import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from scalelab.answering import unwritten
from scalelab.errors import Refused

RAISE = "HYDRA_FULL_ERROR"
OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)


@contextmanager
def told() -> Iterator[None]:
    """Around Hydra.

    Raises:
        KeyboardInterrupt: on Ctrl-C, also where a library in C (YAML's) makes an error of its own of it.
        SystemExit: with 1, when what went wrong has been told on stderr.
    """
    from hydra.errors import HydraException

    before = os.environ.get(RAISE)
    os.environ[RAISE] = "1"
    try:
        with _interruptible():
            yield
    except Refused as refused:
        _tell(f"scalelab: {refused}")
    except HydraException as error:
        _tell("\n".join(str(said) for said in (error, error.__cause__) if said is not None))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in OF_DISKS:
            _tell(f"scalelab: {unwritten(error)}")
        _tell("".join(traceback.format_exception(error)).rstrip())
    finally:
        os.environ.pop(RAISE) if before is None else os.environ.update({RAISE: before})


def _tell(text: str) -> NoReturn:
    sys.stderr.write(text + "\n")
    sys.exit(1)


@contextmanager
def _interruptible() -> Iterator[None]:
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    hit: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        hit.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception:
        if hit:
            raise KeyboardInterrupt from None
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
