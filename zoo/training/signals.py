"""Ctrl-C and SIGTERM: the first one asks the loop to stop after a checkpoint, the second stops at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, NoReturn


class StopRequest:
    """While open, notes SIGINT and SIGTERM instead of dying of them.

    Attributes:
        signal: the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        # Python lets only the main thread set handlers; elsewhere the caller's stay.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)

    def leave(self, message: str) -> NoReturn:
        """End as the signal would have: KeyboardInterrupt, or SystemExit(143) for SIGTERM."""
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt(message)
