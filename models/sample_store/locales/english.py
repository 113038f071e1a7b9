"""English: American English is the vocabulary of the catalogue itself; the other locales say what they call differently.

A noun that a locale gives to a type is taken from all other types there: in Britain pants are underwear only.
"""

from __future__ import annotations

from dataclasses import replace

from models.sample_store.locales.language import Language, Noun, Nouns, read_nouns
from models.sample_store.product_types import PRODUCT_TYPES
from models.sample_store.vocabulary import AUDIENCES, COLOURS, MATERIALS, PRICE_WORDS

ENGLISH = Language(
    code="en",
    nouns={
        kind.name: tuple(
            Noun(noun) for noun in (kind.nouns[0].lower(), *kind.shopper_nouns, *map(str.lower, kind.nouns[1:]))
        )
        for kind in PRODUCT_TYPES
    },
    colours={word.seller: (word.seller.lower(), *word.shopper) for word in COLOURS},
    materials={word.seller: (word.seller.lower(),) for word in MATERIALS},
    audiences={word.seller: word.shopper or (word.seller.lower(),) for word in AUDIENCES},
    prices=PRICE_WORDS,
    inch="inch",
    before=frozenset({"colour", "material", "audience", "size", "brand", "price"}),
    plain={},
)

COMMONWEALTH_ENGLISH = replace(
    ENGLISH,
    colours={
        seller: tuple(word for word in said if "gray" not in word and "colored" not in word)
        for seller, said in ENGLISH.colours.items()
    },
)

_BRITISH = """
    jumper = jumper; woolly jumper; pullover
    trainers = trainers; casual trainers
    running shoes = running trainers; running shoes; runners
    heels = court shoes; heels; high heels; stilettos
    ballet flats = pumps; ballet pumps; flat shoes
    trousers = trousers; chinos; joggers; culottes
    underwear = pants; boxers; knickers; underpants
    undershirt = vest; vest top; thermal vest
    waistcoat = waistcoat; suit waistcoat; dress waistcoat
    nightgown = nightie; nightdress; night shirt
    tights = tights; opaque tights; stockings
    wallet = purse; wallet; coin purse
    handbag = handbag; shoulder bag; tote bag
    soccer ball = football; match football; training football
    american football = american football; nfl ball
    flashlight = torch; led torch; head torch
    blow torch = blowtorch; blow lamp; gas blowtorch
    potato crisps = crisps; packet of crisps; potato crisps
    frozen fries = chips; oven chips; frozen chips
    sofa = sofa; settee; couch; corner sofa
    bed frame = bed frame; divan; divan bed; bedstead
    dress = dress; frock; pinafore dress; maxi dress
    dog lead = dog lead; lead for dog; puppy lead
    plant pot = plant pot; flower pot; planter
    barbecue grill = bbq; barbecue; gas bbq
    smartphone = mobile phone; mobile; smartphone
    television = telly; tv; smart tv
    coat = coat; winter coat; anorak; mac
    slippers = slippers; house slippers
    garden hose = hosepipe; garden hose
    saucepan = saucepan; cooking pot; casserole dish; milk pan
    dinnerware set = crockery set; dinner set; plate set
    stuffed animal = soft toy; cuddly toy; teddy bear
    blender = blender; smoothie maker; liquidiser
    cushion cover = cushion cover; scatter cushion cover; cushion covers
"""

ENGLISH_DIALECTS: dict[str, Nouns] = {"en-US": {}}

COMMONWEALTH_DIALECTS: dict[str, Nouns] = {
    "en-GB": read_nouns(_BRITISH),
    "en-IE": read_nouns(
        _BRITISH.replace("trainers = trainers; casual trainers", "trainers = runners; trainers").replace(
            "running trainers; running shoes; runners", "running shoes; running trainers"
        )
    ),
    "en-AU": read_nouns("""
        jumper = jumper; knit jumper; pullover
        trainers = sneakers; runners; casual shoes
        running shoes = running shoes; joggers; jogging shoes
        trousers = pants; trousers; chinos; trackpants
        underwear = undies; underpants; jocks; knickers
        undershirt = singlet; cotton singlet; thermal singlet
        waistcoat = vest; suit vest; waistcoat
        flip-flops = thongs; rubber thongs; beach thongs
        wallet = wallet; purse; coin purse
        handbag = handbag; shoulder bag; tote bag
        soccer ball = soccer ball; football for soccer
        american football = gridiron ball; american football; nfl ball
        flashlight = torch; led torch; head torch
        blow torch = blow torch; gas blow torch
        potato crisps = chips; potato chips; packet of chips
        frozen fries = hot chips; oven chips; frozen chips
        tights = tights; stockings; opaque tights
        nightgown = nightie; nightdress
        barbecue grill = barbie; bbq; barbeque
        sofa = couch; lounge; sofa
        dress = dress; frock; pinafore dress
        smartphone = mobile phone; mobile; smartphone
        cushion cover = cushion cover; cushion covers
        dog lead = dog lead; lead for dog
    """),
    "en-CA": read_nouns("""
        trainers = runners; sneakers; running sneakers
        running shoes = running shoes; jogging shoes
        sofa = couch; chesterfield; sofa
        dress = dress; jumper dress; sundress
        flashlight = flashlight; led flashlight
        smartphone = cell phone; smartphone
    """),
    "en-IN": read_nouns("""
        flip-flops = slippers; chappals; hawai chappal; flip flops
        slippers = house slippers; indoor slippers; room slippers
        undershirt = vest; banian; baniyan; cotton vest
        waistcoat = nehru jacket; waistcoat; ethnic jacket
        jumper = sweater; pullover; jumper
        trainers = sneakers; casual shoes; sports shoes
        trousers = pants; trousers; formal pants
        underwear = underwear; briefs; panties; inner wear
        nightgown = nighty; nightie; night gown
        wallet = wallet; gents wallet; money purse
        handbag = purse; handbag; ladies purse; ladies bag
        soccer ball = football; football size 5
        american football = american football; rugby style ball
        flashlight = torch; torch light; rechargeable torch
        blow torch = blow torch; gas torch; flame gun
        potato crisps = chips; potato chips; wafers; aloo chips
        blender = mixer; mixie; mixer grinder; juicer mixer
        stand mixer = stand mixer; dough kneader; atta kneader
        frying pan = fry pan; frying pan; tawa pan
        dress = dress; frock; gown; one piece
        smartphone = mobile; mobile phone; smartphone
        phone case = back cover; mobile cover; phone case
        sofa = sofa; sofa set; divan
        dining table = dining table; dining set
        dog lead = dog leash; leash; dog belt
    """),
}
