"""TLS: the options of a URL for it, and why a server was not accepted."""

import os
import re
import ssl
from collections.abc import Mapping
from typing import Any

#: What may be asked of the server's certificate.
REQUIREMENTS = ("required", "optional", "none")
#: The options that name files, with what each of them holds.
FILES = {
    "ssl_ca_certs": "certificates of authorities",
    "ssl_certfile": "a certificate",
    "ssl_keyfile": "a private key",
}
#: The place in OpenSSL's or Python's code, in the text of an error.
PLACE = re.compile(r"^\[[^\]]*\] | \(_ssl\.c:\d+\)$")


def checked(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a URL with TLS as redis-py takes them.

    Raises ValueError for a word that is not allowed, and for a file that cannot be used.
    """
    found = dict(options)
    if asked := found.get("ssl_cert_reqs"):
        found["ssl_cert_reqs"] = str(asked).lower().removeprefix("cert_")  # also CERT_REQUIRED
        if found["ssl_cert_reqs"] not in REQUIREMENTS:
            raise ValueError(f"ssl_cert_reqs is required, optional or none; not {asked}")
    for name in FILES:
        if path := found.get(name):
            check_readable(name, path)
    check_contents(found)
    return found


def check_readable(name: str, path: str) -> None:
    """Raise ValueError unless the file that an option names can be read."""
    if not os.path.exists(path):
        raise ValueError(f"{name}: no such file: {path}")
    if not os.path.isfile(path):
        raise ValueError(f"{name} is no file: {path}")
    if not os.access(path, os.R_OK):
        raise ValueError(f"{name}: the file may not be read: {path}")


def check_contents(options: Mapping[str, Any]) -> None:
    """Raise ValueError if the files hold something else than they should."""
    authorities, certificate, key = (options.get(name) for name in FILES)
    if key and not certificate:
        raise ValueError("ssl_keyfile needs ssl_certfile, the certificate of that key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities:
        try:
            context.load_verify_locations(authorities)
        except ssl.SSLError as error:
            raise ValueError(
                f"ssl_ca_certs: no {FILES['ssl_ca_certs']} in {authorities}: {cause(error)}"
            ) from None
    if certificate:
        password = options.get("ssl_password") or ""  # without one, OpenSSL would ask a terminal
        try:
            context.load_cert_chain(certificate, key, password)
        except ssl.SSLError as error:
            files = " and ".join(filter(None, (certificate, key)))
            raise ValueError(
                f"ssl_certfile and ssl_keyfile: no certificate with its key in {files}: "
                f"{cause(error)}"
            ) from None


def cause(error: ssl.SSLError) -> str:
    """The cause of an error of TLS, without places in the code of OpenSSL."""
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_message:
        return f"its certificate is refused: {error.verify_message.rstrip('.').lower()}"
    text = PLACE.sub("", str(error.strerror or error.reason or error)).lower()
    if text == "pem lib":  # OpenSSL says no more
        return "not in PEM form, or of another key"
    return text or "no TLS"


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """The error of TLS that has caused another error; None if there is none."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, ssl.SSLError):
        seen = seen.__cause__ or seen.__context__
    return seen
