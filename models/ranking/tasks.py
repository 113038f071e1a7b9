"""What a shopper may do with a product that is shown, each only after the one before it."""

from __future__ import annotations

TASKS = ("click", "cart", "purchase")
