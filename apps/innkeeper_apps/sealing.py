"""What lies encrypted in Redis: signing keys of apps, and requests of `step.fetch` and `step.ai`, which carry keys of
others, under a key that only executors and the operator have; and the secrets of webhooks' proofs, under another one that
only gateways and the operator have.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE_BYTES = 12
_KEY_BYTES = 32
_VERSION = b"\x01"


class Sealer:
    """AES-256-GCM (NIST SP 800-38D) with one key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"an encryption key has {_KEY_BYTES} bytes, this one {len(key)}")
        self._cipher = AESGCM(key)

    def seal(self, plain: bytes) -> bytes:
        """Encrypt; the same text gives another result each time."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, plain, _VERSION)

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt.

        Raises:
            ValueError: sealed with another key, or damaged.
        """
        nonce, text = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        if sealed[:1] != _VERSION:
            raise ValueError("what was sealed has an unknown form; was it written by a newer version?")
        try:
            return self._cipher.decrypt(nonce, text, _VERSION)
        except (InvalidTag, ValueError):  # a ValueError for what is shorter than a nonce
            raise ValueError("what was sealed does not open with this encryption key") from None
