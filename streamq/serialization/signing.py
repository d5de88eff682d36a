"""Signed messages: write access to Redis alone cannot make a worker run a task.

A producer signs messages with a secret that Redis never has; a worker refuses a message that
is unsigned, was changed, or is in a queue that it was not sent to.  The raw bytes are signed,
so nothing is decoded before the signature is checked.
"""

import hmac
import re
from collections.abc import Iterator, Mapping

from streamq.core.text import shown, visible
from streamq.errors import ConfigError, SignatureInvalid

#: Fields that are added or changed on the way, so that the signature cannot cover them.  The id
#: is covered apart from the other fields, because each copy of a fan-out has its own.
#: An attacker who changes one of these can delay a task or have it run again, as by adding the
#: whole message again, but cannot make another task of it.  The generation is not covered because
#: the server chooses it when it accepts the message.
UNSIGNED_FIELDS = frozenset(
    {
        b"id", b"signature",
        b"crashes", b"retries", b"refusals", b"rejections", b"eta", b"stale", b"history",
        b"generation",
    }
)  # fmt: skip

#: The first parts of every signed text, so that a signature of a task is valid for nothing else.
DOMAIN = (b"streamq1", b"task")

#: The least bytes of a secret: the size of the digest of HMAC-SHA-256.
SHORTEST = 32
KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

#: Advice: how to make a secret.
RECIPE = 'python -c "import secrets; print(secrets.token_hex(32))"  makes a good one'


class KeyRing(Mapping[str, bytes]):
    """A key ring: secrets by key id.  Its ``repr`` shows the ids and no secret."""

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

    No error shows any part of the value: it may be a secret in the wrong place.
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
    """Split a value into ids and secrets, unchecked."""
    if isinstance(value, Mapping):
        return list(value.items())
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a mapping from ids to secrets, or text: ID:SECRET")
    words = [word.strip() for word in value.split(",")]
    split = [word.partition(":") for word in words if word]
    if not all(colon for _, colon, _ in split):
        raise ConfigError(
            f"{name}: a key without an id",
            advice=["write ID:SECRET, with commas between several; a secret has no comma"],
        )
    return [(key.strip(), secret) for key, _, secret in split]


def make_signer(
    signing: str, keys: KeyRing | None, key: str | None, namespace: str
) -> "Signer | None":
    """Make the signer of these settings; None if ``signing`` is off.

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
    return Signer(keys, key or next(iter(keys)), namespace, required=signing == "required")


class Signer:
    """A signer: signs messages with one key and checks them with all keys of a ring."""

    def __init__(self, keys: KeyRing, key: str, namespace: str, *, required: bool) -> None:
        self.keys = keys
        self.key = key
        self.namespace = namespace.encode()
        self.required = required

    def signature(self, id: bytes, queue: bytes, fields: Mapping[bytes, bytes]) -> bytes:
        """Make the field ``signature`` of a message: ``KEYID:HEX``.

        ``fields`` are those of its stream entry; an old signature is ignored.  ``queue`` is the
        queue it is sent to; a message that names an exchange is bound to that and its routing
        key instead.  A worker that changes a message signs it again with this.

        Raises ConfigError for a copy of a fan-out that is to go to another queue: a worker
        there could not tell it from a copy that an attacker moved.
        """
        base, in_place = address(id, queue, fields)
        if not in_place:
            copy = id.decode(errors="replace")
            raise ConfigError(
                f"{visible(copy)} is a signed copy of a fan-out, and runs only in the queue that "
                f"its id names, not in {visible(queue.decode(errors='replace'))!r}",
                advice=["retry without queue=; or enqueue the task anew, with queue="],
            )
        return b"%s:%s" % (self.key.encode(), self.digest(self.key, base, queue, fields))

    def check(self, id: bytes, queue: bytes, fields: Mapping[bytes, bytes]) -> bool:
        """Return whether a message read from ``queue`` is signed; unsigned ones may be allowed.

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
        base, in_place = address(id, queue, fields)
        expected = self.digest(key, base, queue, fields)
        if not hmac.compare_digest(expected, digest.encode("latin-1")) or not in_place:
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
        """The HMAC of all signed parts, in hexadecimal digits."""
        place = b"" if fields.get(b"exchange") else queue
        parts = [*DOMAIN, self.namespace, key.encode(), base, place]
        for name in sorted(fields.keys() - UNSIGNED_FIELDS):
            parts += (name, fields[name])
        # Each part has its length before it, so that no two messages give the same text.
        text = b"".join(b"%d:%s" % (len(part), part) for part in parts)
        return hmac.digest(self.keys[key], text, "sha256").hex().encode()

    def __repr__(self) -> str:
        return f"<signer: {self.key} of {', '.join(self.keys)}>"


def address(id: bytes, queue: bytes, fields: Mapping[bytes, bytes]) -> tuple[bytes, bool]:
    """The id that a message was sent with, and whether it belongs in this queue.

    Only exchanges make copies, ``ID@QUEUE``; any other message with such an id was moved.
    """
    base, at, copy = id.rpartition(b"@")
    if not at:
        return id, True
    return (base, copy == queue) if fields.get(b"exchange") else (id, True)


def unsigned() -> SignatureInvalid:
    """Make the error of a message without a required signature."""
    return SignatureInvalid(
        "the message is not signed, and signing is required here",
        known={"possible": "typed by hand (XADD), or sent by an app without signing_keys"},
        advice=[
            "send it with streamq enqueue, or an app that has the signing_keys",
            'while producers get their keys, signing = "permissive" lets it run',
        ],
    )
