"""What the analysis knows of languages: stemmers, letters, stop words, units. Keys are ISO 639-1 codes.

The stop words are function words alone: articles, conjunctions, prepositions, pronouns. The published lists go further, and so remove
what shops sell: "back", "side", "system", "two" or "best".
"""

from __future__ import annotations

STEMMERS = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek", "en": "english", "eo": "esperanto",
    "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi",
    "hu": "hungarian", "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "nb": "norwegian", "ne": "nepali",
    "nl": "dutch", "nn": "norwegian", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian",
    "sr": "serbian", "st": "sesotho", "sv": "swedish", "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip

# Languages that write compounds as one word.
COMPOUNDING = frozenset({"de", "nl", "sv", "da", "nb", "nn", "no", "fi", "is", "et", "hu"})

# What may stand between the parts of a compound; the stemmer takes off other endings of the first part.
LINKS = {"de": ("s", "es", "n", "en", "er", "e"), "nl": ("s", "en", "e"), "sv": ("s", "e", "o", "u"), "da": ("s", "e"),
         "nb": ("s", "e"), "nn": ("s", "e"), "no": ("s", "e")}  # fmt: skip

# Accented letters that the alphabet counts as letters of their own, and without which words become others.
LETTERS = {"sv": "åäö", "fi": "åäö", "da": "åæø", "nb": "åæø", "nn": "åæø", "no": "åæø", "is": "áðéíóúýþæö", "et": "õäöü",
           "vi": "".join(map(chr, (*range(0xC0, 0x250), *range(0x1E00, 0x1F00))))}  # fmt: skip

# The neighbours' letters for the same sounds.
TWINS = {"sv": {"æ": "ä", "ø": "ö"}, "fi": {"æ": "ä", "ø": "ö"}, "da": {"ä": "æ", "ö": "ø"}, "nb": {"ä": "æ", "ö": "ø"},
         "nn": {"ä": "æ", "ö": "ø"}, "no": {"ä": "æ", "ö": "ø"}}  # fmt: skip

DECIMAL_COMMA = frozenset(
    {"bg", "ca", "cs", "da", "de", "el", "es", "et", "fi", "fr", "hr", "hu", "id", "is", "it", "lt", "lv", "nb", "nl", "nn", "no",
     "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "tr", "uk", "vi"}
)  # fmt: skip

# A unit's sign, and how it is written. A sign of one letter belongs to a number only without a blank between them.
UNITS = {
    "in": 'in inch inches " \'\' zoll pouce pouces pulgada pulgadas pollice pollici polegada polegadas tum tommer inç cal cale cali',
    "ft": "ft foot feet",
    "mm": "mm millimeter millimeters millimetre millimetres", "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres metro metros metri mètre mètres", "km": "km kilometer kilometers kilometre kilometres",
    "mg": "mg", "g": "g gram grams gramm grammes gr", "kg": "kg kgs kilo kilos kilogram kilograms", "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces", "ml": "ml milliliter milliliters millilitre", "cl": "cl",
    "l": "l liter liters litre litres litro litros litri",
    "w": "w watt watts", "kw": "kw", "wh": "wh", "kwh": "kwh", "v": "v volt volts", "a": "a amp amps ampere", "mah": "mah", "ah": "ah",
    "hz": "hz hertz", "khz": "khz", "mhz": "mhz", "ghz": "ghz", "kb": "kb", "mb": "mb megabyte megabytes", "gb": "gb gigabyte gigabytes",
    "tb": "tb terabyte terabytes", "mbps": "mbps", "gbps": "gbps", "mp": "mp megapixel megapixels mpix", "dpi": "dpi", "rpm": "rpm",
    "lm": "lm lumen lumens", "db": "db", "k": "k", "p": "p", "%": "%",
}  # fmt: skip

STOP_WORDS = {
    "en": "a an and are as at be by for from in into is it its of on or that the their these this those to was were with you your",
    "de": "aber als am an auch auf aus bei bis das dass dem den der des die dies diese dieser durch ein eine einem einen einer eines er es "
          "für gegen ich ihr im in ist mit nach oder sich sie sind so um und unter vom von vor wie zu zum zur über",
    "fr": "a à au aux avec ce ces cette c d dans de des du elle en est et il l la le les leur mais ou où par pas plus pour qu que qui s sa "
          "sans se ses son sont sur un une y",
    "es": "a al con de del desde e el ella en entre es esta este la las lo los más o para pero por que se sin sobre son su sus un una y",
    "it": "a ad al alla alle agli ai che col con d da dal dalla dei del dell della delle di e ed gli i il in l la le lo ma nel nella o per "
          "più su sul sulla tra un una uno",
    "pt": "a à ao aos as às com da das de do dos e em entre é na nas no nos o os ou para pela pelo por que sem se seu sua um uma",
    "nl": "aan al als bij dat de der deze die dit door een en er het hij ik in is je met naar niet of om onder ook op te tot uit "
          "van voor zijn",
    "sv": "att av de den det dig din eller en ett från för han hon i inte med och om på sig som till under ut vid är",
    "da": "af at de den der det din du eller en er et for fra han hun i ikke med og om på sig som til ud under ved",
    "no": "av at de den der det din du eller en er et for fra han hun i ikke med og om på seg som til under ut ved",
    "fi": "ei että ja joka jos kuin kun mutta ne niin on se sekä tai tämä vai",
    "pl": "a albo ale czy dla do i ich jak jest lub na nad nie o od oraz po pod przez przy się są to w we z za ze że",
    "cs": "a aby ale ani do i je k ke na nad nebo o od po pod pro při s se si to u v ve z za ze že",
    "ru": "а без в во для до и из или к как на не но о об от по под при с со то у что это",
    "tr": "bir bu da de gibi ile için mi ve veya ya",
    "ro": "a al ale cu de din fără în la o pe pentru prin sau se și un",
    "hu": "a az egy és hogy is meg nem vagy",
}  # fmt: skip
STOP_WORDS["nb"] = STOP_WORDS["nn"] = STOP_WORDS["no"]
