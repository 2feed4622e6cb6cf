"""scalelab: sweep small proxies, fit how their optimal hyperparameters move with scale, project to the large run.

`scalelab.parametrize` puts a published table of transfer rules on a model of your own.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scalelab.modules import Parametrized, parametrize

try:
    __version__ = version("scalelab")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0+uninstalled"

__all__ = ["Parametrized", "__version__", "parametrize"]


def __getattr__(name: str) -> Any:
    # Looked up when it is first asked for: they need torch, and `import scalelab` does not.
    if name in ("Parametrized", "parametrize"):
        return getattr(import_module("scalelab.modules"), name)
    raise AttributeError(f"module 'scalelab' has no attribute {name!r}")
