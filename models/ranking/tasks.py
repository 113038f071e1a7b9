"""The ranker's tasks: what a shopper may do with a shown product, each only after the one before it."""

from __future__ import annotations

TASKS = ("click", "cart", "purchase")
