"""A message: content, and what each protocol it passed says about it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from towpath.protocols.layer import Layer

__all__ = ["Message"]

_Metadata = TypeVar("_Metadata")
_NONE: Mapping[type, object] = MappingProxyType({})


class Message:
    """Content with metadata, one value for each protocol at most; never changed once made.

    `complete` is false for a part of a message that goes on, and for every piece of a byte stream.

    >>> from towpath.protocols import KeepAlive, Layer
    >>> class Numbered(Layer[int]): "Counts messages."
    >>> message = Message(b"news").with_metadata(Numbered, 7)
    >>> message.get(Numbered), message.get(KeepAlive)
    (7, None)
    """

    __slots__ = ("_metadata", "complete", "content")

    def __init__(
        self, content: bytes = b"", complete: bool = True, metadata: Mapping[type, object] | None = None
    ) -> None:
        self.content = content
        self.complete = complete
        self._metadata = metadata

    @property
    def metadata(self) -> Mapping[type, object]:
        """Everything that was said about it, by the class of the layer that said it."""
        return self._metadata if self._metadata is not None else _NONE

    def get(self, protocol: type[Layer[_Metadata]]) -> _Metadata | None:
        """What `protocol` says about this message, or what it is to be told; `None` for nothing."""
        return None if self._metadata is None else cast("_Metadata | None", self._metadata.get(protocol))

    def with_metadata(self, protocol: type[Layer[_Metadata]], value: _Metadata) -> Message:
        """The same with one value set; an earlier one of that protocol is replaced."""
        return Message(self.content, self.complete, {**self.metadata, protocol: value})

    def with_content(self, content: bytes) -> Message:
        """Other content with the same metadata, as a whole message."""
        return Message(content, True, self._metadata)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and (self.content, self.complete, dict(self.metadata)) == (
            other.content,
            other.complete,
            dict(other.metadata),
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        told: dict[str, Any] = {protocol.__name__: value for protocol, value in self.metadata.items()}
        return f"Message({self.content!r}, complete={self.complete}{f', {told}' if told else ''})"
