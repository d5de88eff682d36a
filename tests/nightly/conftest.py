"""Sites with real workers, for the tests of this folder."""

from tests.sites import bare, proxy, server, shell, site

__all__ = ["bare", "proxy", "server", "shell", "site"]
