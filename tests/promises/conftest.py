"""Sites with real workers, for the tests of this folder."""

from tests.sites import any_server, bare, proxy, server, shell, site

__all__ = ["any_server", "bare", "proxy", "server", "shell", "site"]
