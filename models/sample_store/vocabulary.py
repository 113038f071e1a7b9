"""The words of the sample store: what sellers write, and what shoppers write for the same thing.

All of it was written for this store. Brand names are invented; likeness to a real one is accident. Lists are in a small
notation, read by `words`: items are separated by ";", and after "=" stand the shopper's words for the item, separated
by "|", as in "Burgundy = dark red | wine red; Navy = dark blue".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One value: the seller's word for it, and the shopper's words where they differ."""

    seller: str
    shopper: tuple[str, ...] = ()


def words(notation: str) -> tuple[Word, ...]:
    """Reads the notation of this module."""
    items = []
    for item in notation.split(";"):
        seller, _, shopper = item.partition("=")
        items.append(Word(seller.strip(), names(shopper, "|")))
    return tuple(items)


def names(notation: str, separator: str = ";") -> tuple[str, ...]:
    return tuple(name for part in notation.split(separator) if (name := " ".join(part.split())))


def by_seller(listed: Iterable[Word]) -> dict[str, Word]:
    return {word.seller: word for word in listed}


COLOURS = words("""
    Black = jet black; White = pure white; Grey = gray; Charcoal = dark grey | dark gray; Silver = metallic grey;
    Ivory = off white | cream white; Cream = off white; Beige = sand coloured | light tan; Taupe = grey brown;
    Tan = light brown; Brown = chocolate; Walnut = dark wood | dark brown; Oak = light wood; Natural = plain wood;
    Burgundy = dark red | wine red | maroon; Red = bright red; Coral = pinkish orange; Rust = burnt orange;
    Terracotta = clay red; Orange = bright orange; Mustard = dark yellow | mustard yellow; Yellow = bright yellow;
    Gold = golden; Brass = gold; Copper = rose brown; Rose Gold = pink gold; Blush = pale pink | light pink;
    Pink = girly pink; Fuchsia = hot pink | bright pink; Plum = dark purple; Purple = violet; Lavender = light purple;
    Navy = dark blue | midnight blue; Cobalt = royal blue; Blue = mid blue; Sky = light blue | baby blue;
    Denim = jean blue; Teal = blue green; Turquoise = aqua; Mint = pale green; Sage = grey green | soft green;
    Olive = army green; Emerald = jewel green; Forest = dark green | hunter green; Green = bright green;
    Multicolour = multicolored | colourful
""")

PALETTES = {
    "home": "Grey; White; Black; Natural; Oak; Walnut; Beige; Navy; Sage; Cream; Charcoal; Burgundy; Emerald; Mustard; "
    "Blush; Teal; Terracotta; Rust; Forest; Taupe; Plum; Brass",
    "wood": "Oak; Walnut; White; Natural; Black; Grey; Brown; Cream",
    "kitchen": "Black; White; Silver; Red; Cream; Navy; Sage; Copper; Mint; Charcoal; Teal; Yellow",
    "tech": "Black; White; Silver; Charcoal; Navy; Rose Gold; Mint; Red; Sky; Lavender; Cobalt",
    "clothes": "Black; White; Navy; Grey; Denim; Beige; Olive; Burgundy; Red; Blush; Sky; Forest; Mustard; Cream; Rust; "
    "Lavender; Fuchsia; Cobalt; Brown; Teal; Coral; Multicolour",
    "shoes": "Black; White; Brown; Tan; Navy; Grey; Red; Beige; Olive; Blush; Burgundy; Multicolour",
    "sport": "Black; Blue; Red; Grey; Green; Orange; Purple; Pink; Yellow; Teal; Navy",
    "toys": "Multicolour; Blue; Pink; Red; Yellow; Green; Purple; Natural; Mint",
    "garden": "Green; Black; Charcoal; Terracotta; Natural; Grey; Brown; White; Teal; Olive",
    "beauty": "Coral; Red; Blush; Burgundy; Plum; Fuchsia; Brown; Rust; Pink",
    "pets": "Grey; Brown; Black; Red; Blue; Beige; Pink; Teal; Orange",
    "tools": "Yellow; Red; Blue; Black; Orange; Green",
}

MATERIALS = words("""
    Velvet = plush | soft velvet; Linen = flax; Leather = real leather | genuine leather; Faux Leather = leatherette |
    vegan leather; Boucle = teddy fabric; Chenille; Solid Oak = oak wood; Solid Pine = pine wood; Walnut Veneer = walnut
    wood; Engineered Wood = mdf | particle board; Bamboo = bamboo wood; Rattan = wicker; Metal; Steel;
    Stainless Steel = inox | metal; Cast Iron = iron; Aluminium = aluminum | light metal; Brass; Glass = see through;
    Tempered Glass = safety glass; Marble = stone; Ceramic = porcelain; Stoneware = clay; Silicone = rubber; Plastic;
    Polycarbonate = hard plastic; Cotton = 100% cotton; Organic Cotton = natural cotton; Jersey = t shirt fabric;
    Denim = jean; Wool = woolen; Merino Wool = fine wool; Cashmere; Fleece = fuzzy; Down = feather; Polyester;
    Nylon = ripstop; Canvas; Suede = brushed leather; Mesh = breathable; Knit = knitted; Satin = silky; Silk;
    Corduroy = cord; Jute = natural fibre; Rubber; Foam; Carbon Fibre = carbon; Teak = hardwood; Acacia = hardwood;
    Resin = polyresin; Terracotta = clay pot; Wood = wooden; Plush = soft; Chrome Vanadium = hard steel
""")

# What a material adds to or takes from a price, in 64ths of a doubling.
MATERIAL_PREMIUMS = {
    **dict.fromkeys(("Leather", "Silk", "Cashmere", "Marble", "Carbon Fibre", "Teak", "Solid Oak"), 28),
    **dict.fromkeys(("Merino Wool", "Down", "Cast Iron", "Suede", "Boucle", "Wool", "Velvet"), 14),
    **dict.fromkeys(("Plastic", "Polyester", "Engineered Wood", "Faux Leather"), -16),
}

STYLES = words("""
    Modern = contemporary | sleek; Mid-Century = retro | 60s style; Scandinavian = nordic | scandi; Industrial = loft
    style; Rustic = farmhouse | country style; Traditional = old fashioned | timeless; Minimalist = simple | clean lines;
    Bohemian = boho | hippie; Coastal = beach house style; Art Deco = 1920s style;
    Casual = everyday | laid back; Formal = dressy | smart; Athletic = sporty | gym; Vintage = old school | retro;
    Preppy = college style; Streetwear = urban | skater; Elegant = classy | fancy; Outdoor = hiking | rugged;
    Gaming = gamer; Professional = pro | studio grade; Compact = mini | small; Essential = basic | no frills;
    Portable = travel | to go; Smart = wifi | app controlled;
    Beginner = starter | entry level; Training = practice | workout; Competition = race | pro level;
    Recreational = leisure; Educational = learning | stem; Classic = old time; Fantasy = magical | fairy tale;
    Adventure = action; Natural = organic | no chemicals; Sensitive = gentle | hypoallergenic; Indulgent = luxury | spa;
    Clinical = dermatologist | strong; Heavy-Duty = tough | industrial strength; Cordless = battery | wireless;
    Playful = fun | cute; Orthopaedic = orthopedic | joint support
""")

STYLE_FAMILIES = {
    "home": "Modern; Scandinavian; Traditional; Mid-Century; Rustic; Industrial; Minimalist; Bohemian; Coastal; Art Deco",
    "fashion": "Casual; Athletic; Formal; Vintage; Streetwear; Elegant; Preppy; Outdoor; Bohemian; Minimalist",
    "tech": "Essential; Compact; Professional; Portable; Gaming; Smart",
    "kitchen": "Essential; Modern; Professional; Traditional; Compact; Rustic",
    "sport": "Training; Beginner; Recreational; Competition; Outdoor",
    "play": "Educational; Classic; Adventure; Fantasy",
    "garden": "Traditional; Modern; Rustic; Coastal; Heavy-Duty",
    "care": "Natural; Sensitive; Indulgent; Clinical",
    "pets": "Playful; Natural; Modern; Orthopaedic; Heavy-Duty",
    "tools": "Essential; Professional; Heavy-Duty; Compact; Cordless",
    "food": "Classic; Natural; Traditional; Essential; Indulgent",
}

AUDIENCES = words("""
    Women's = womens | ladies | for women; Men's = mens | for men; Girls' = girls | for girls; Boys' = boys | for boys;
    Unisex
""")

# Words that ask for a price band, from the cheapest band (0) to the dearest (4). Band 2 has no word: nobody asks for it.
PRICE_WORDS = (
    ("cheap", "budget"),
    ("affordable", "good value"),
    (),
    ("high quality", "quality"),
    ("premium", "luxury"),
)

# Product lines. Sellers put one before the noun; it means nothing to a shopper.
SERIES = names("""
    Alder; Amberley; Arden; Ashlow; Aster; Avena; Beacon; Bellamy; Birch; Bramble; Briar; Caldera; Calla; Camber; Caspian;
    Cedar; Chapel; Cirrus; Clover; Cobble; Corsa; Crest; Cygnet; Dapple; Delta; Dune; Eddy; Elmwood; Ember; Esker; Fable;
    Farrow; Fathom; Finch; Fjord; Flint; Gable; Garnet; Glade; Grove; Harbour; Haven; Hazel; Heron; Hollis; Indigo; Isla;
    Jasper; Juniper; Kestrel; Kite; Larch; Laurel; Linden; Lumen; Lyra; Maple; Marlow; Meadow; Merrin; Mesa; Mirage;
    Mistral; Moss; Nimbus; Nova; Oriel; Osprey; Otter; Paloma; Pavilion; Pebble; Perch; Pilot; Poplar; Prairie; Quarry;
    Quill; Rambler; Raven; Reed; Ridge; Rowan; Saffron; Sierra; Solace; Sorrel; Sparrow; Summit; Tamar; Tempo; Thistle;
    Timber; Topaz; Tundra; Umber; Vale; Verity; Vesper; Wander; Willow; Wren; Zephyr
""")


@dataclass(frozen=True, slots=True)
class Brand:
    """An invented maker."""

    name: str
    departments: tuple[str, ...]
    tier: int  # price positioning, -2 (budget) to 2 (luxury)
    styles: tuple[str, ...]  # half of its products are in one of these, where the product type has them


def _brands(departments: str, notation: str) -> tuple[Brand, ...]:
    """Lines of "name, tier, styles"."""
    brands = []
    for line in notation.strip().splitlines():
        name, tier, styles = (part.strip() for part in line.split(","))
        brands.append(Brand(name, names(departments), int(tier), names(styles)))
    return tuple(brands)


BRANDS = (
    *_brands(
        "Furniture",
        """
        Halden, 1, Modern; Mid-Century
        Brackwell, 0, Traditional
        Tarnholm, 0, Scandinavian; Minimalist
        Lissandre, 2, Art Deco; Traditional
        Mordale, -1, Modern
        Quillstead, 1, Rustic; Traditional
        Vesterlund, 0, Scandinavian
        Hobbin & Crake, 2, Mid-Century
        Pellinor Home, -2, Modern; Minimalist
        Ironquay, 0, Industrial
        """,
    ),
    *_brands(
        "Furniture; Garden",
        """
        Willowmere, 1, Rustic; Coastal
        Sandrick, -1, Coastal; Modern
        Ormsgate, 0, Traditional
        """,
    ),
    *_brands(
        "Kitchen",
        """
        Castrel, 1, Professional
        Brothwick, 0, Traditional; Rustic
        Pannikin, -1, Essential
        Saltmarrow, 2, Professional; Modern
        Kettering Vale, 0, Traditional
        Dishwell, -2, Essential; Compact
        Ferrocotto, 2, Rustic
        Whiskby, 0, Modern
        Larderly, -1, Compact
        Tavolina, 1, Modern
        """,
    ),
    *_brands(
        "Electronics",
        """
        Nexoria, 0, Smart
        Quorvia, 1, Professional
        Brontek, -1, Essential
        Auralynx, 2, Professional; Portable
        Teravane, 0, Gaming
        Pixandra, 1, Compact; Portable
        Ohmsley, -2, Essential
        Kryden, 0, Gaming
        Vantelo, 1, Smart; Compact
        Miradyne, 2, Professional
        Plexonic Bay, -1, Compact
        Lumevar, 0, Portable
        """,
    ),
    *_brands(
        "Electronics; Kitchen",
        """
        Homvolt, -1, Smart; Essential
        Tessivane, 1, Smart; Modern
        """,
    ),
    *_brands(
        "Clothing",
        """
        Marrowby, 0, Casual
        Ondelune, 2, Elegant; Formal
        Threadmoor, 1, Preppy; Formal
        Kiteshed, -1, Streetwear; Casual
        Sable & Fern, 1, Bohemian; Vintage
        Plainfold, -2, Casual; Minimalist
        Duskwater, 0, Vintage
        Arbrelle, 0, Elegant
        Loftstitch, -1, Casual
        Corvane, 2, Minimalist; Formal
        """,
    ),
    *_brands(
        "Clothing; Shoes; Sports & Outdoors",
        """
        Velostride, 1, Athletic; Training
        Fellrunner Co, 1, Outdoor
        Zipperoo, -1, Athletic; Beginner
        Northlatch, 2, Outdoor
        """,
    ),
    *_brands(
        "Shoes",
        """
        Cobblewick, 0, Casual; Vintage
        Stridewell, 0, Athletic
        Lacemoor, 1, Formal; Elegant
        Soleander, 2, Elegant
        Padfoot & Pine, -1, Casual
        Trampolo, -2, Casual; Athletic
        Heathstep, 0, Outdoor
        """,
    ),
    *_brands(
        "Sports & Outdoors",
        """
        Campwright, 0, Outdoor; Recreational
        Ironpulse, 1, Training
        Paddlecove, 0, Recreational
        Basecairn, 2, Outdoor; Competition
        Flexory, -1, Beginner; Training
        Spokewise, 1, Competition
        Gymbling, -2, Beginner
        Riverhook, 0, Recreational; Outdoor
        """,
    ),
    *_brands(
        "Toys & Games",
        """
        Tumblebee, 0, Educational
        Wobbleworks, 1, Classic
        Dragonquay, 0, Fantasy; Adventure
        Bricklebury, 1, Educational; Classic
        Pippin Post, -1, Classic
        Gigglecrate, -2, Adventure
        Starlantern, 0, Fantasy
        Meeplewood, 2, Classic; Adventure
        Sprocketto, 0, Educational
        """,
    ),
    *_brands(
        "Garden",
        """
        Trowelby, 0, Traditional
        Greenhasp, -1, Modern
        Loamwell, 0, Rustic
        Hedgeward, 1, Heavy-Duty
        Sunspill, 0, Coastal; Modern
        Bramleaf, 1, Traditional
        Mulchester, -2, Traditional
        Arborline, 2, Modern
        """,
    ),
    *_brands(
        "Beauty",
        """
        Rosemere, 1, Indulgent
        Dewlily, 0, Natural
        Purivane, -1, Sensitive
        Saponelle, 0, Natural; Indulgent
        Dermavow, 1, Clinical
        Velouria, 2, Indulgent
        Fernglow, 0, Natural
        Simplica Skin, -2, Sensitive
        Ambrosine, 2, Clinical; Indulgent
        Mirthe, 0, Sensitive
        """,
    ),
    *_brands(
        "Pet Supplies",
        """
        Waggleton, 0, Playful
        Purrington, 1, Modern; Playful
        Snoutly, -1, Playful
        Barkhollow, 0, Heavy-Duty
        Whiskerfold, 0, Natural
        Pawsome Croft, 1, Natural
        Fetchbury, -2, Playful; Heavy-Duty
        Tailgrove, 2, Orthopaedic; Modern
        Kibblemoor, 0, Natural
        """,
    ),
    *_brands(
        "Tools",
        """
        Gruntwell, 1, Heavy-Duty; Professional
        Torqueby, 0, Cordless
        Hammerlin, -1, Essential
        Boltmarch, 0, Professional
        Rivetra, 2, Professional
        Spannerly, -2, Essential; Compact
        Workhaven, 0, Compact; Cordless
        Anvilgate, 1, Heavy-Duty
        """,
    ),
    *_brands(
        "Tools; Garden",
        """
        Sawyer's Yard, 0, Heavy-Duty
        Voltbarrow, 1, Cordless; Modern
        """,
    ),
    *_brands(
        "Food & Snacks",
        """
        Crunchwick, 0, Classic
        Spudhollow, 1, Traditional; Natural
        Nibbleton, -1, Essential
        Saltbarrow, 2, Indulgent
        Frostacre, 0, Essential; Classic
        Taterly, -2, Essential
        Goldenfurrow, 1, Natural
        """,
    ),
)
