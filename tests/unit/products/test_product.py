"""The text of a product is what the encoder should see of it."""

from __future__ import annotations

import pickle

from models.products.product import Product, product_text


def test_product_text_has_title_brand_last_categories_and_named_attributes() -> None:
    product = Product(
        "1", "Velvet Sofa.", "Halden", "Furniture > Living Room > Sofas", attributes={"note": "Seats 3.", "x": "y"}
    )
    assert product_text(product, ("note", "absent")) == "Velvet Sofa. Halden. Living Room, Sofas. Seats 3"


def test_a_brand_in_the_title_is_not_repeated() -> None:
    assert product_text(Product("1", "HALDEN Sofa", "Halden")) == "HALDEN Sofa"


def test_product_is_hashable_and_travels_between_processes() -> None:
    product = Product("1", "Sofa", attributes={"colour": "red"})
    assert pickle.loads(pickle.dumps(product)) == product  # noqa: S301 - its own bytes
    assert len({product, product}) == 1
