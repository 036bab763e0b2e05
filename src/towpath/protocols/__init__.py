"""Protocols as layers that do no I/O, the stack that joins them, and the messages that pass through.

::

    from towpath.protocols import Layer, LengthPrefix, Message

    Parameters.tls(framers=[LengthPrefix()])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towpath.protocols.dtls import Dtls
    from towpath.protocols.framer import Framer
    from towpath.protocols.framers.authenticated_websocket import AuthenticatedWebSocket
    from towpath.protocols.framers.delimiter import Delimiter, Lines
    from towpath.protocols.framers.fixed_size import FixedSize
    from towpath.protocols.framers.json import Json, JsonValue
    from towpath.protocols.framers.keep_alive import KeepAlive
    from towpath.protocols.framers.length_prefix import LengthPrefix
    from towpath.protocols.framers.tlv import Tlv
    from towpath.protocols.layer import Layer, Link
    from towpath.protocols.message import Message
    from towpath.protocols.quic import Quic, QuicClosed, QuicDetails
    from towpath.protocols.stack import Handshake, Outlet, Stack
    from towpath.protocols.tls import Tls, TlsDetails
    from towpath.protocols.tls_psk import PskDetails, TlsPsk
    from towpath.protocols.websocket import WebSocket, WebSocketFramer, WebSocketMetadata
    from towpath.protocols.websocket_close import CloseCode, WebSocketClosed
    from towpath.protocols.websocket_frames import Opcode
    from towpath.protocols.websocket_opening import (
        Accept,
        Refuse,
        WebSocketDetails,
        WebSocketOpening,
        WebSocketRefused,
        WebSocketRequest,
    )

__all__ = [
    "Accept",
    "AuthenticatedWebSocket",
    "CloseCode",
    "Delimiter",
    "Dtls",
    "FixedSize",
    "Framer",
    "Handshake",
    "Json",
    "JsonValue",
    "KeepAlive",
    "Layer",
    "LengthPrefix",
    "Lines",
    "Link",
    "Message",
    "Opcode",
    "Outlet",
    "Refuse",
    "PskDetails",
    "Quic",
    "QuicClosed",
    "QuicDetails",
    "Stack",
    "Tls",
    "TlsDetails",
    "TlsPsk",
    "Tlv",
    "WebSocket",
    "WebSocketClosed",
    "WebSocketDetails",
    "WebSocketFramer",
    "WebSocketMetadata",
    "WebSocketOpening",
    "WebSocketRefused",
    "WebSocketRequest",
]

_HOMES = {
    "towpath.protocols.dtls": ("Dtls",),
    "towpath.protocols.framer": ("Framer",),
    "towpath.protocols.framers.authenticated_websocket": ("AuthenticatedWebSocket",),
    "towpath.protocols.framers.delimiter": ("Delimiter", "Lines"),
    "towpath.protocols.framers.fixed_size": ("FixedSize",),
    "towpath.protocols.framers.json": ("Json", "JsonValue"),
    "towpath.protocols.framers.keep_alive": ("KeepAlive",),
    "towpath.protocols.framers.length_prefix": ("LengthPrefix",),
    "towpath.protocols.framers.tlv": ("Tlv",),
    "towpath.protocols.layer": ("Layer", "Link"),
    "towpath.protocols.message": ("Message",),
    "towpath.protocols.quic": ("Quic", "QuicClosed", "QuicDetails"),
    "towpath.protocols.stack": ("Handshake", "Outlet", "Stack"),
    "towpath.protocols.tls": ("Tls", "TlsDetails"),
    "towpath.protocols.websocket": ("WebSocket", "WebSocketFramer", "WebSocketMetadata"),
    "towpath.protocols.websocket_close": ("CloseCode", "WebSocketClosed"),
    "towpath.protocols.websocket_frames": ("Opcode",),
    "towpath.protocols.websocket_opening": (
        "Accept",
        "Refuse",
        "WebSocketDetails",
        "WebSocketOpening",
        "WebSocketRefused",
        "WebSocketRequest",
    ),
    "towpath.protocols.tls_psk": ("PskDetails", "TlsPsk"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(importlib.import_module(module), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
