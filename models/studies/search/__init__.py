"""Evaluates whole searches by a shop's own judgements: `aisle evaluate search`."""
