"""Multipart bodies, read. Plain data."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Upload:
    """A file in a form."""

    name: str  # of its field
    filename: str
    content_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart body: its fields in order, which may come several times, and its files."""

    fields: tuple[tuple[str, str], ...]
    uploads: tuple[Upload, ...] = ()
