"""Values as JSON (RFC 8259), above any message protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from towpath.errors import Misuse, PeerViolation
from towpath.protocols.layer import Layer
from towpath.protocols.message import Message

__all__ = ["Json", "JsonValue"]


@dataclass(frozen=True, slots=True)
class JsonValue:
    """What a message means; `None` is a value as well."""

    value: Any


class Json(Layer[JsonValue]):
    """Every message is one JSON text; its value is the metadata, read and checked as `type`.

    `type` is whatever msgspec decodes to: a dataclass, a `TypedDict`, `dict[str, int]`; by default any value. ::

        connection = Connection(endpoint, Parameters.tls(framers=[Lines(), Json(News)]))
        await connection.send(Json.message(News("hello")))
        news = Json.value(await connection.receive_message())
    """

    def __init__(self, type: Any = Any) -> None:
        self._read = msgspec.json.Decoder(type).decode

    @staticmethod
    def message(value: object) -> Message:
        """A message that means `value`."""
        return Message(metadata={Json: JsonValue(value)})

    @staticmethod
    def value(message: Message) -> Any:
        """What a received message means."""
        found = message.get(Json)
        if found is None:
            raise Misuse("this message did not come through Json")
        return found.value

    def input(self, message: Message) -> None:
        if not message.complete:
            raise Misuse("Json stands on a message protocol: put a framer such as Lines below it")
        try:
            value = self._read(message.content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PeerViolation("json", str(error)) from None
        self.deliver(message.with_metadata(Json, JsonValue(value)))

    def output(self, message: Message) -> None:
        found = message.get(Json)
        self.write(message if found is None else message.with_content(msgspec.json.encode(found.value)))
