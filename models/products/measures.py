"""Units of measure: their spellings, and the words that are a number with a unit, as "500GB" or "10x15cm"."""

from __future__ import annotations

import re

# unit -> its spellings in English, German, French, Spanish, Italian, Dutch and Japanese, in lower case
_UNITS: dict[str, tuple[str, ...]] = {
    "mm": ("mm", "millimeter", "millimeters", "millimetre", "millimetres", "ミリ"),
    "cm": ("cm", "centimeter", "centimeters", "centimetre", "centimetres", "zentimeter", "センチ"),
    "m": ("m", "meter", "meters", "metre", "metres", "mètre", "mètres", "metro", "metros", "metri", "メートル"),
    "km": ("km", "kilometer", "kilometers"),
    "in": ("in", "inch", "inches", "zoll", "pouce", "pouces", "pulgada", "pulgadas", "pollice", "pollici", "インチ"),
    "ft": ("ft", "foot", "feet"),
    "yd": ("yd", "yard", "yards"),
    "mg": ("mg",),
    "g": ("g", "gr", "gram", "grams", "gramm", "gramme", "grammes", "グラム"),
    "kg": ("kg", "kilo", "kilos", "kilogram", "kilograms", "キロ"),
    "oz": ("oz", "ounce", "ounces"),
    "lb": ("lb", "lbs", "pound", "pounds"),
    "ml": ("ml", "milliliter", "millilitre"),
    "cl": ("cl",),
    "l": ("l", "liter", "liters", "litre", "litres", "litro", "litros", "litri", "リットル"),
    "gal": ("gal", "gallon", "gallons"),
    "qt": ("qt", "quart", "quarts"),
    "kb": ("kb",),
    "mb": ("mb",),
    "gb": ("gb", "gigabyte", "gigabytes", "ギガ"),
    "tb": ("tb", "terabyte", "terabytes"),
    "hz": ("hz", "hertz"),
    "khz": ("khz",),
    "mhz": ("mhz",),
    "ghz": ("ghz",),
    "mw": ("mw",),
    "w": ("w", "watt", "watts", "ワット"),
    "kw": ("kw",),
    "wh": ("wh",),
    "kwh": ("kwh",),
    "v": ("v", "volt", "volts", "ボルト"),
    "ma": ("ma",),
    "a": ("a", "amp", "amps", "ampere"),
    "mah": ("mah",),
    "mp": ("mp", "megapixel", "megapixels"),
    "dpi": ("dpi",),
    "fps": ("fps",),
    "rpm": ("rpm",),
    "psi": ("psi",),
    "btu": ("btu",),
    "db": ("db",),
    "p": ("p",),
    "k": ("k",),
    "bit": ("bit", "bits"),
    "pack": ("pack", "packs", "pk", "pcs", "pc", "piece", "pieces", "count", "ct", "stück", "stk"),
}

_ENDS_OF_MODELS = {"a", "k", "l", "m"}  # "504A" is a toner
_OF_MEASURES = {spelling for spellings in _UNITS.values() for spelling in spellings} - _ENDS_OF_MODELS
_SPELLINGS = "|".join(sorted(_OF_MEASURES, key=len, reverse=True))
_MEASURE = re.compile(rf"\d+(?:x\d+)*(?:{_SPELLINGS})|\d+(?:x\d+)+")


def is_measure(plain: str) -> bool:
    """Returns whether a word in lower case, without punctuation and blanks, is a number with a unit or the numbers of a size. Units of
    one letter with which model numbers end are not recognised."""
    return _MEASURE.fullmatch(plain) is not None
