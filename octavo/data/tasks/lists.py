"""Word lists that names, values and statements are put together from. Lists only; drawing is in names and values."""

from __future__ import annotations


def _split(text: str) -> tuple[str, ...]:
    """Entries between bars; line ends count as spaces."""
    return tuple(part.strip() for part in " ".join(text.split()).split("|"))


def _words(text: str) -> tuple[str, ...]:
    """Single words."""
    return tuple(text.split())


GIVEN = _words(
    """Ada Adam Agnes Albert Alice Amos Anna Anselm Arthur Astrid Beatrice Bela Benedict Berta Bruno Carl Cecil Clara
    Conrad Cora Cyril Daphne David Dora Edgar Edith Edmund Eleanor Elias Ella Emil Emma Erik Esther Eva Felix Fergus
    Flora Frank Freda Gabriel George Gerda Gilbert Grace Greta Gustav Hannah Harold Harriet Hector Helen Henry
    Herbert Hilda Hugo Ida Igor Ines Irene Isaac Ivan Ivor Jane Jasper Joan Jonas Joseph Judith Julian Karin Kaspar
    Klara Konstantin Laura Leah Leon Lilian Linus Lionel Louisa Lucas Lucy Lydia Mabel Magnus Marcus Margot Maria
    Martha Martin Matilda Maud Maurice Mira Miriam Mona Nadia Nathan Nell Nicholas Nina Nora Norman Olga Oliver
    Oscar Otto Patrick Paul Pauline Peter Philip Priya Quentin Rachel Ralph Raymond Rebecca Robert Roland Rosa
    Rosalie Rupert Ruth Samuel Sarah Selma Sidney Sigrid Silas Simon Sofia Stella Susan Sven Sylvia Teresa Theodor
    Thomas Tilda Tobias Ulrich Una Ursula Vera Victor Viola Walter Wanda Wilfred William Winifred Xenia Yusuf Yvonne
    Zelda Amina Chen Darius Farid Hana Ibrahim Jun Kavya Kofi Lakshmi Mei Mikhail Nikolai Omar Rafael Ravi Sanjay
    Tariq Yuki Zainab Jack Tom Ben Sam Kate Meg Bess Ned"""
)
TITLES = _words(
    """Captain Doctor Lady Lord Sir Professor Colonel Major Old Young Aunt Uncle Father Sister Brother Mother Judge
    King Queen Prince Princess Count Countess Baron Duke Duchess Bishop Inspector Sergeant General Admiral Master
    Mistress Miss Mr Mrs Dame Madame Nurse Abbot Friar Mayor Deacon Squire Governor"""
)
PLACES = _words(
    """London Paris Rome Madrid Vienna Berlin Prague Oslo Lisbon Athens Dublin Geneva Naples Venice Cairo Delhi Boston
    Chicago Bristol York Leeds Oxford Dover Hamburg Bremen Antwerp Bruges Ghent Lyon Marseilles Bordeaux Seville
    Granada Milan Turin Genoa Palermo Corfu Smyrna Damascus Baghdad Bombay Madras Canton Kyoto Osaka Lima Quito
    Bogota Havana Montreal Toronto Halifax Sydney Perth Auckland Nairobi Lagos Accra Tunis Algiers Tripoli Warsaw
    Cracow Riga Helsinki Stockholm Bergen Copenhagen Iceland Norway Sweden Denmark Portugal Spain Italy Greece
    Turkey Egypt Peru Chile Mexico Canada Kenya Ghana Malta Cyprus Crete Sicily Corsica Wales Scotland Cornwall
    Devon Kent Essex Sussex Norfolk Suffolk"""
)
COLOURS = _words(
    """red blue green yellow white black brown grey orange purple pink violet crimson scarlet turquoise silver golden
    amber ivory indigo maroon olive teal copper lilac emerald cream tan beige magenta azure bronze"""
)
ADJECTIVES = _words(
    """old new small large little tall broken iron wooden silver golden empty heavy narrow round square painted hidden
    locked rusty dusty polished carved cracked crooked lonely quiet silent bright dark cold warm dry wet long short
    thick thin deep wide soft rough smooth sharp ancient modern northern southern eastern western upper lower inner
    outer left right front back stone glass copper brass leather velvet paper marble oak pine striped spotted faded
    gilded lost stolen forgotten famous second-hand folding spare borrowed tiny huge plain royal holy noisy lazy
    gentle brave clever proud swift lame blind grey red blue green yellow white black brown purple crimson"""
)
THINGS = _words(
    """door drawer box chest cabinet cupboard desk table chair bench lamp lantern mirror window gate bridge tower house
    barn mill church chapel inn tavern shop cellar attic garden well fountain statue clock bell drum flute fiddle
    piano organ book map letter parcel trunk bag purse basket bottle jar kettle pot pan cup bowl plate knife sword
    shield helmet ring crown necklace coin medal key lock chain rope ladder cart wagon coach sledge boat ferry barge
    raft anchor sail engine wheel hammer saw axe plough spade bucket barrel crate safe vault shed stable kennel cage
    nest tree hedge stone rock cave spring pond lake river island hill valley road path tunnel station platform
    train tram bicycle machine printer telephone radio computer camera telescope compass globe painting carpet
    curtain pillow blanket coat cloak hat glove boot shoe umbrella stick violin trumpet harp puppet doll kite
    chessboard notebook diary ledger folder envelope stamp locker shelf bookcase wardrobe staircase balcony corridor
    kitchen library laboratory workshop greenhouse orchard vineyard bakery lighthouse"""
)
ANIMALS = _words(
    """dog cat horse mare pony donkey mule cow bull goat sheep lamb pig hen cock goose duck swan heron crane stork
    raven crow magpie sparrow robin thrush lark falcon hawk eagle owl parrot pigeon dove otter badger fox wolf bear
    hare rabbit hedgehog squirrel mouse rat bat seal whale dolphin salmon trout pike carp turtle tortoise lizard
    snake frog toad bee wasp moth beetle spider camel elephant lion tiger monkey"""
)
NOUNS = _words(
    """apple arrow ash autumn basil beacon berry birch blossom brook candle canvas cedar cherry cinnamon clover cloud
    comet coral cotton cradle crystal daisy dawn diamond dragon dream dust echo elm ember evening feather fern flame
    flint forest frost garlic garnet ginger glacier grain granite grove harbour harvest hazel heather holly honey
    horizon ivy jade jasmine juniper lantern laurel lavender lemon lily linen maple marble meadow melody midnight
    mint mirror mist moon morning moss mountain mustard needle nettle nutmeg oak ocean olive onion opal orchid
    oyster paper parsley pearl pebble pepper pine plum pollen poppy quartz quill rain ribbon river rose rosemary
    ruby saffron sage salt sand sapphire shadow shell silk sky smoke snow spark spice spruce star steel storm sugar
    summer sunset thistle thunder thyme timber topaz treasure tulip turnip umbra velvet vinegar violet walnut water
    wave wheat whisper willow wind winter wool yarrow zephyr"""
)
TRADES = _words(
    """baker tailor weaver smith potter carpenter mason miller fisherman sailor farmer shepherd gardener cook brewer
    butcher printer bookbinder clockmaker locksmith jeweller glassblower painter sculptor teacher lawyer judge
    doctor nurse chemist dentist surveyor architect engineer pilot driver porter clerk banker merchant grocer barber
    cobbler saddler tanner dyer roofer plumber miner quarryman forester hunter soldier officer sheriff priest monk
    organist violinist dancer actor poet librarian editor journalist translator astronomer botanist geologist
    historian photographer beekeeper ferryman innkeeper coachman blacksmith candlemaker rope-maker"""
)
FOODS = _split(
    """bread cheese soup porridge rice lentils trout salmon mutton roast beef|fried eggs|plum cake|apple pie|onion
    soup|cold ham|pea soup|ginger beer|black tea|hot chocolate|barley water|cider|mulled wine|rye bread|goat
    cheese|pancakes|dumplings|mushroom stew|honey cake|baked apples|potato salad|grilled fish|strawberry jam|lemon
    tart|pickled herring|buttered toast|chestnut soup|fig jam|oatmeal|raisins|walnuts|almond milk"""
)
MONTHS = _words("""January February March April May June July August September October November December""")
WEEKDAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
SMALL_NUMBERS = _words(
    """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen twenty thirty
    forty"""
)
ORDINALS = _words("""first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth last""")
COINS = _words("""crowns shillings pounds francs ducats guineas florins dollars marks pence thalers roubles lire""")
UNITS = _words("""feet yards miles pounds tons years days hours pages rooms steps acres barrels inches men bags""")
CONTAINERS = _words("""room box locker cabin cell vault shelf gate platform page folder table warehouse plot tank""")
COMPANY_ENDINGS = _split(
    """& Sons|Brothers|Trading Company|and Company|Shipping|Mills|Bank|Press|Works|Railway|Hotel|Stores|Foundry"""
)
SYLLABLE_STARTS = _words(
    """b br c ch cl d dr f fl g gl gr h j k kl kr l m n p pl qu r s sh sk st t th tr v vel w y z bal dor fen gal hal
    kel mar nor or pel ral sel tor ul ven wen zor al ar el er ol an en"""
)
SYLLABLE_MIDDLES = _words("a e i o u ai au ea ia ie oa ou or ar el in an on en ir um")
SYLLABLE_ENDS = _words(
    """b d f g k l m n p r s t th nd rd st ra ren lin don dal mor vik ber stad ton ley by ham wick ford holm mere dor
    rath nel bel tis nar vas dra lo mi na to ka ri sa"""
)
SURNAME_STARTS = _words(
    """Ash Black Brad Brook Cart Cold Crow Dal East Fair Fen Gold Green Grim Hart Hay Hol Kings Lang Lock Marsh Mill
    Moor Nor Oak Penn Quar Red Rock Sand Shel Stan Stone Sud Thorn Under Wake Wal West Whit Wild Win Wood York Bar
    Bell Cram Den Elms Far Gar Hask Kel Lam Mer Pem Rad Swin Tarn"""
)
SURNAME_ENDS = _words(
    """bourne bridge brook bury by combe cott croft dale don field ford gate ham hill house hurst land ley low man mere
    more ridge stead stone ton wall ward water way well wick wood worth son sen er"""
)
