"""Signed messages: who may write to Redis may still not make a worker run something.

A producer signs what it sends with a secret that Redis never sees; a worker refuses what
was not signed, was changed, or stands where it was not sent to.  What is signed are the
raw bytes, so nothing is decoded before it is known to be genuine.
"""

import hmac
import re
from collections.abc import Iterator, Mapping

from streamq.core.text import shown, visible
from streamq.errors import ConfigError, SignatureInvalid

#: What a message gains or changes on its way, so that no signature can cover it.  The id is
#: covered apart from the other fields, because each copy of a fan-out has its own.
#: An attacker who changes one of these can delay a task or have it run again, as by putting
#: the whole message back, but not make another one of it.  Which generation of its id a message
#: begins only the server knows that accepts it.
CHANGES = frozenset(
    {
        b"id", b"signature",
        b"crashes", b"retries", b"refusals", b"rejections", b"eta", b"stale", b"history",
        b"generation",
    }
)  # fmt: skip

#: What the signature of a task begins with: it is good for nothing else.
DOMAIN = (b"streamq1", b"task")

#: Bytes of a secret at least: what HMAC-SHA-256 can make use of.
SHORTEST = 32
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

#: How to make a secret that is good enough.
RECIPE = 'python -c "import secrets; print(secrets.token_hex(32))"  makes a good one'


class KeyRing(Mapping[str, bytes]):
    """Secrets by the ids of their keys.  Shows the ids, and never a secret."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._secrets = dict(secrets)

    def __getitem__(self, key: str) -> bytes:
        return self._secrets[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._secrets)

    def __len__(self) -> int:
        return len(self._secrets)

    def __repr__(self) -> str:
        return ", ".join(f"{key}:***" for key in self._secrets)


def read_keys(value: object, name: str) -> KeyRing:
    """Read a key ring: a mapping from ids to secrets, or text such as ``"k1:…,k2:…"``.

    No error shows any part of what was given: it may be a secret in the wrong place.
    """
    if isinstance(value, KeyRing):
        return value
    secrets: dict[str, bytes] = {}
    for key, secret in pairs_of(value, name):
        if not isinstance(key, str) or not KEY_ID.fullmatch(key):
            raise ConfigError(
                f"{name}: an id of a key is not 1–64 letters, digits, '.', '_' or '-'",
                advice=["write ID:SECRET, with commas between several"],
            )
        if key in secrets:
            raise ConfigError(f"{name} has two keys with the id {key!r}")
        data = secret.encode(errors="surrogateescape") if isinstance(secret, str) else secret
        if not isinstance(data, bytes) or len(data) < SHORTEST:
            raise ConfigError(
                f"{name}: the secret of {key!r} is shorter than {SHORTEST} bytes", advice=[RECIPE]
            )
        secrets[key] = data
    if not secrets:
        raise ConfigError(f"{name} has no key", advice=["write ID:SECRET", RECIPE])
    return KeyRing(secrets)


def pairs_of(value: object, name: str) -> list[tuple[object, object]]:
    """Ids and secrets, unchecked."""
    if isinstance(value, Mapping):
        return list(value.items())
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a mapping from ids to secrets, or text: ID:SECRET")
    words = [word.strip() for word in value.split(",")]
    parted = [word.partition(":") for word in words if word]
    if not all(colon for _, colon, _ in parted):
        raise ConfigError(
            f"{name}: a key without an id",
            advice=["write ID:SECRET, with commas between several; a secret has no comma"],
        )
    return [(key.strip(), secret) for key, _, secret in parted]


def seal_of(signing: str, keys: KeyRing | None, key: str | None, namespace: str) -> "Seal | None":
    """What signs and checks messages under these settings; None where ``signing`` is off.

    Raises ConfigError if there is no key to sign with.
    """
    if signing == "off":
        return None
    if not keys:
        raise ConfigError(
            f"signing is {signing!r}, but there are no signing_keys",
            advice=["STREAMQ_SIGNING_KEYS=k1:SECRET, the same for producers and workers", RECIPE],
        )
    if key is not None and key not in keys:  # it may be a secret: it is not shown
        raise ConfigError(
            "signing_key is the id of none of the signing_keys",
            known={"there are": ", ".join(keys)},
        )
    return Seal(keys, key or next(iter(keys)), namespace, required=signing == "required")


class Seal:
    """Signs with one key, and checks with all of the ring."""

    def __init__(self, keys: KeyRing, key: str, namespace: str, *, required: bool) -> None:
        self.keys = keys
        self.key = key
        self.namespace = namespace.encode()
        self.required = required

    def signature(self, id: bytes, queue: bytes, fields: Mapping[bytes, bytes]) -> bytes:
        """The field ``signature`` for a message: ``KEYID:HEX``.

        ``fields`` are those of its entry; any old signature is left out.  ``queue`` is the
        one it is addressed to; a message that names an exchange is bound to that and its
        routing key instead.  A worker that changes a message signs it anew with this.

        Raises ConfigError for a copy of a fan-out that is to go to another queue: nobody
        could tell it from a stolen one there.
        """
        base, home = address(id, queue, fields)
        if not home:
            copy = id.decode(errors="replace")
            raise ConfigError(
                f"{visible(copy)} is a signed copy of a fan-out, and runs only in the queue that "
                f"its id names, not in {visible(queue.decode(errors='replace'))!r}",
                advice=["retry without queue=; or enqueue the task anew, with queue="],
            )
        return b"%s:%s" % (self.key.encode(), self.digest(self.key, base, queue, fields))

    def check(self, id: bytes, queue: bytes, fields: Mapping[bytes, bytes]) -> bool:
        """Tell whether a message read from ``queue`` is signed; an unsigned one may be allowed.

        Raises SignatureInvalid for one that must not run.
        """
        given = fields.get(b"signature")
        if given is None:
            if self.required:
                raise unsigned()
            return False
        key, _, digest = given.decode("latin-1").partition(":")
        if key not in self.keys:
            raise SignatureInvalid(
                f"the message is signed with a key that is not known here: {shown(key)}",
                known={"known": ", ".join(self.keys)},
                advice=["add that key to signing_keys of the workers, then sign with it"],
            )
        base, home = address(id, queue, fields)
        genuine = self.digest(key, base, queue, fields)
        if not hmac.compare_digest(genuine, digest.encode("latin-1")) or not home:
            raise SignatureInvalid(
                "the signature does not fit the message",
                known={
                    "possible": "it was changed, moved here from another queue or namespace, "
                    f"or signed with another secret that is called {key}"
                },
                advice=["find out who else can write to this Redis"],
            )
        return True

    def digest(self, key: str, base: bytes, queue: bytes, fields: Mapping[bytes, bytes]) -> bytes:
        """The HMAC of everything that must stay as it is, in hexadecimal digits."""
        place = b"" if fields.get(b"exchange") else queue
        parts = [*DOMAIN, self.namespace, key.encode(), base, place]
        for name in sorted(fields.keys() - CHANGES):
            parts += (name, fields[name])
        # Each part is led by its length, so that no two messages are written alike.
        text = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        return hmac.digest(self.keys[key], text, "sha256").hex().encode()

    def __repr__(self) -> str:
        return f"<seal: {self.key} of {', '.join(self.keys)}>"


def address(id: bytes, queue: bytes, fields: Mapping[bytes, bytes]) -> tuple[bytes, bool]:
    """The id that a message was sent under, and whether it is at home in this queue.

    Exchanges alone make copies, ``ID@QUEUE``; whoever else has such an id stole it.
    """
    base, at, copy = id.rpartition(b"@")
    if not at:
        return id, True
    return (base, copy == queue) if fields.get(b"exchange") else (id, True)


def unsigned() -> SignatureInvalid:
    """Say that a message has no signature, though it must."""
    return SignatureInvalid(
        "the message is not signed, and signing is required here",
        known={"possible": "typed by hand (XADD), or sent by an app without signing_keys"},
        advice=[
            "send it with streamq enqueue, or an app that has the signing_keys",
            'while producers get their keys, signing = "permissive" lets it run',
        ],
    )


class Seldom:
    """Says when something that may happen very often is worth a line in the log."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.next = float("-inf")
        self.unsaid = 0

    def due(self, now: float) -> bool:
        """Whether to say it now (monotonic seconds); else it is counted in ``unsaid``."""
        if now < self.next:
            self.unsaid += 1
            return False
        self.next = now + self.seconds
        return True

    def missed(self) -> int:
        """How often it was not said since this was last asked."""
        missed, self.unsaid = self.unsaid, 0
        return missed
