"""The contract of Aisle (`aisle.v1`) and a client for it (`aisle.client`)."""
