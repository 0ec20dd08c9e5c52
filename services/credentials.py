"""Sealing what must be kept but not read: provider credentials and default keys."""

from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

MASK: Final = "••••"


class SealBroken(Exception):
    """None of the ENCRYPTION_KEYS opens what the database holds."""


class Sealer:
    """Seals with the newest key, opens with any."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        fernets = [Fernet(key) for key in keys]
        self._newest, self._fernet = fernets[0], MultiFernet(fernets)

    def seal(self, text: str) -> bytes:
        """The text, sealed."""
        return self.seal_bytes(text.encode())

    def open(self, sealed: bytes) -> str:
        """The text.

        Raises:
            SealBroken: it was sealed with a key that is no longer in ENCRYPTION_KEYS.
        """
        return self.open_bytes(sealed).decode()

    def seal_bytes(self, data: bytes) -> bytes:
        """The same of what need not be text."""
        return self._fernet.encrypt(data)

    def open_bytes(self, sealed: bytes) -> bytes:
        """The same of what need not be text.

        Raises:
            SealBroken: see `open`.
        """
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken:
            raise SealBroken(
                "a stored credential was sealed with a key that is not in ENCRYPTION_KEYS; "
                "add that key again, or enter the credential anew"
            ) from None

    def renewed(self, sealed: bytes) -> bytes | None:
        """The same sealed with the newest key; None = it is already.

        Raises:
            SealBroken: see `open`.
        """
        try:
            self._newest.decrypt(sealed)
        except InvalidToken:
            return self.seal_bytes(self.open_bytes(sealed))
        return None


def masked(secret: str) -> str:
    """A secret for people to recognise: its last four characters, where it is long enough to spare them."""
    return MASK + (secret[-4:] if len(secret) >= 16 else "") if secret else ""  # noqa: PLR2004 - a quarter at most
