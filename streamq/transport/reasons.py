"""Why a connection could not be made, in plain words, and what to do about it."""

import ssl

import redis

from streamq.transport.address import NoMaster
from streamq.transport.tls import cause, tls_error

AUTHORITY = "?ssl_ca_certs=FILE  in the URL names the authority that has signed it"
NAMES = "use a name of the certificate in the URL; ?ssl_check_hostname=false  checks no name"
NO_TLS = "is that the TLS port of the server?  redis://… is for a port without TLS"


def reason(error: BaseException) -> str:
    """The plain cause of a connection error, without redis-py's wrapping."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, NoMaster):
        if isinstance(seen, TimeoutError) or "imeout" in type(seen).__name__:
            return "no answer in time"
        if isinstance(seen, ssl.SSLError):
            return cause(seen)
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.lower()
        seen = seen.__cause__ or seen.__context__
    return str(seen or error).rstrip(".") or type(error).__name__


def advice(error: BaseException, trial: str, *, secure: bool) -> list[str]:
    """Advice for a connection that failed; ``trial`` is a command that shows if a server is up.

    A server without TLS is silent where TLS (``secure``) begins, as one that hangs is.
    """
    found = tls_error(error)
    if isinstance(found, ssl.SSLCertVerificationError):
        return [NAMES if "mismatch" in found.verify_message else AUTHORITY]
    if found is not None:
        return [NO_TLS]
    up = f"is it up?  {trial}"
    return [up, NO_TLS] if secure and isinstance(error, redis.TimeoutError) else [up]
