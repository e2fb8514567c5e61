"""Which Innkeeper this is."""

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("innkeeper-server")
    except PackageNotFoundError:  # run from a source tree that nobody installed
        return "0.0.0+unknown"


VERSION = _installed()
