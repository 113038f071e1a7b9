"""The words of a query: what they say of price, sizes, what is not wanted, and what is wanted for what."""
