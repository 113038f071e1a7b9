"""The names of the static features, in the order of their columns. `models.unified.static_features` computes them."""

STATIC_FEATURES = ("popularity", "new", "in_stock", "value")
