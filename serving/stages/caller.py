"""Whose work an item is. Set where a call begins; every task of the call sees it."""

from __future__ import annotations

from contextvars import ContextVar

CALLER: ContextVar[str] = ContextVar("caller", default="")
