"""scalelab: sweep small proxies, fit how their optimal hyperparameters move with scale, project to the large run."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("scalelab")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0.0.0+uninstalled"
