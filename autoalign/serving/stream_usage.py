"""What a stream of an engine's events says about tokens, read in passing."""

from __future__ import annotations

import re

_END = b"\n\n"
_EVENT = b"data: {"
# A text's own quotes are escaped in JSON, so these match keys alone.
_USAGE = re.compile(rb'"usage":\s*\{')
_TOKENS = re.compile(rb'"completion_tokens":\s*(\d+)')
_NO_CHOICE = re.compile(rb'"choices":\s*\[\]')


def completion_tokens(content: bytes) -> int | None:
    """The last `completion_tokens` of a JSON text; None where it has none."""
    found = _TOKENS.findall(content)
    return int(found[-1]) if found else None


class StreamUsage:
    """Counts the tokens of one stream of server-sent events.

    Args:
        hidden: the usage at the stream's end was asked for by the gateway, not by the client, who does
            not get to see it.
    """

    def __init__(self, hidden: bool) -> None:
        self._hidden, self._open = hidden, b""
        self._events, self._reported = 0, 0

    @property
    def tokens(self) -> int:
        """Generated so far: as the engine says; before its last word, one for each event."""
        return self._reported or self._events

    def take(self, piece: bytes) -> bytes:
        """The next bytes from the engine; what of them goes on to the client, in whole events."""
        whole, end, self._open = (self._open + piece).rpartition(_END)
        ready = whole + end
        self._events += ready.count(_EVENT)
        if _USAGE.search(ready) is None:
            return ready
        return b"".join(event + _END for event in whole.split(_END) if self._is_for_client(event))

    def rest(self) -> bytes:
        """What came behind the last whole event."""
        return self._open

    def _is_for_client(self, event: bytes) -> bool:
        if _USAGE.search(event) is None:
            return True
        self._reported = completion_tokens(event) or self._reported
        return not self._hidden or _NO_CHOICE.search(event) is None
