"""Relations made of a verb and frames: who painted what, who sailed where. For training only.

Covers: the table of verbs, their statements and questions in active, passive, cleft and inverted order. Does not cover:
the relations that tests ask about (octavo.data.tasks.relations), drawing of entities and values.
"""

from __future__ import annotations

from octavo.data.tasks.frames import ASK, WONDER
from octavo.data.tasks.phrases_facts import STATED
from octavo.data.tasks.phrasing import Phrasing
from octavo.data.tasks.relations import Relation
from octavo.data.tasks.wordings import Wordings

# entity sort, value sort, preposition or -, verbs as base/past/participle
_TABLE = """
person thing - paint/painted/painted buy/bought/bought sell/sold/sold steal/stole/stolen find/found/found
person thing - borrow/borrowed/borrowed repair/repaired/repaired bring/brought/brought break/broke/broken
person thing - keep/kept/kept want/wanted/wanted see/saw/seen draw/drew/drawn choose/chose/chosen
person thing - collect/collected/collected send/sent/sent clean/cleaned/cleaned hate/hated/hated
person thing - inherit/inherited/inherited wear/wore/worn throw/threw/thrown forget/forgot/forgotten
person thing - invent/invented/invented study/studied/studied destroy/destroyed/destroyed guard/guarded/guarded
person thing - drop/dropped/dropped order/ordered/ordered describe/described/described deliver/delivered/delivered
person person - help/helped/helped betray/betrayed/betrayed follow/followed/followed teach/taught/taught
person person - visit/visited/visited accuse/accused/accused save/saved/saved love/loved/loved
person person - trust/trusted/trusted invite/invited/invited know/knew/known replace/replaced/replaced
person person - thank/thanked/thanked cheat/cheated/cheated praise/praised/praised warn/warned/warned
person place in wait/waited/waited sleep/slept/slept study/studied/studied stay/stayed/stayed die/died/died
person place in grow-up/grew-up/grown-up retire/retired/retired hide/hid/hidden sing/sang/sung teach/taught/taught
person place to travel/travelled/travelled sail/sailed/sailed walk/walked/walked move/moved/moved flee/fled/fled
person place from come/came/come return/returned/returned escape/escaped/escaped start/started/started
person money - owe/owed/owed win/won/won lend/lent/lent spend/spent/spent save/saved/saved earn/earned/earned
person money for sell-the-house/sold-the-house/sold-the-house work/worked/worked sing/sang/sung
person number - dial/dialled/dialled choose/chose/chosen remember/remembered/remembered read/read/read
person number - shout/shouted/shouted type/typed/typed press/pressed/pressed guess/guessed/guessed
person food - cook/cooked/cooked order/ordered/ordered bake/baked/baked like/liked/liked refuse/refused/refused
person food - serve/served/served sell/sold/sold taste/tasted/tasted
person word - write/wrote/written hear/heard/heard learn/learned/learned spell/spelled/spelled say/said/said
person thing with work/worked/worked arrive/arrived/arrived play/played/played fight/fought/fought
person thing with travel/travelled/travelled part/parted/parted
person thing about dream/dreamed/dreamed complain/complained/complained write/wrote/written boast/boasted/boasted
person thing for search/searched/searched pray/prayed/prayed pay/paid/paid ask/asked/asked
person thing under sit/sat/sat sleep/slept/slept hide/hid/hidden
person thing of speak/spoke/spoken tire/tired/tired think/thought/thought
person thing on sit/sat/sat step/stepped/stepped insist/insisted/insisted
person person with dine/dined/dined quarrel/quarrelled/quarrelled dance/danced/danced live/lived/lived
person person for wait/waited/waited work/worked/worked weep/wept/wept vote/voted/voted
person person from borrow-money/borrowed-money/borrowed-money hear/heard/heard steal/stole/stolen
person person of dream/dreamed/dreamed despair/despaired/despaired complain/complained/complained
person person under serve/served/served study/studied/studied
person person behind stand/stood/stood walk/walked/walked
person time at wake-up/woke-up/woken-up leave/left/left return/returned/returned knock/knocked/knocked
person year in die/died/died marry/married/married resign/resigned/resigned arrive/arrived/arrived
person date on leave/left/left return/returned/returned begin/began/begun call/called/called
person trade as serve/served/served begin/began/begun travel/travelled/travelled hide/hid/hidden
object year in burn-down/burned-down/burned-down vanish/vanished/vanished reopen/reopened/reopened
object place in lie/lay/lain end-up/ended-up/ended-up hang/hung/hung break/broke/broken
object money for go/went/gone sell/sold/sold change-hands/changed-hands/changed-hands
object thing with come/came/come shine/shone/shone smell/smelled/smelled fill/filled/filled
object thing under lie/lay/lain vanish/vanished/vanished
object person to go/went/gone pass/passed/passed fall/fell/fallen
ship thing with come/came/come arrive/arrived/arrived sail/sailed/sailed
ship person under sail/sailed/sailed leave/left/left
town thing with trade/traded/traded begin/began/begun
company thing with deal/dealt/dealt begin/began/begun fail/failed/failed
object thing - need/needed/needed cover/covered/covered hide/hid/hidden replace/replaced/replaced
object person - surprise/surprised/surprised hurt/hurt/hurt fascinate/fascinated/fascinated
town thing - need/needed/needed export/exported/exported lack/lacked/lacked fear/feared/feared
town year in burn/burned/burned surrender/surrendered/surrendered grow/grew/grown
town person - honour/honoured/honoured elect/elected/elected welcome/welcomed/welcomed banish/banished/banished
ship place to drift/drifted/drifted return/returned/returned
ship place near sink/sank/sunk anchor/anchored/anchored burn/burned/burned
ship thing - bring/brought/brought lose/lost/lost load/loaded/loaded
company thing - export/exported/exported promise/promised/promised produce/produced/produced
company person - hire/hired/hired dismiss/dismissed/dismissed sue/sued/sued
company money - lose/lost/lost owe/owed/owed earn/earned/earned
company town in open/opened/opened fail/failed/failed begin/began/begun
"""
# Nouns that tie an entity to a person: "the mill is the pride of Anna Moor".
_NOUNS = (
    "pride", "gift", "idea", "work", "secret", "invention", "discovery", "fault", "home", "dream", "shame", "refuge",
    "creation", "choice", "prize", "wish", "burden", "heirloom", "favourite", "joy", "hobby", "rival", "plan",
    "project", "responsibility", "possession", "heritage", "treasure", "delight", "hope", "doing", "temptation",
)  # fmt: skip
# Verbs that give a second name.
_NAMED = (
    "named", "nicknamed", "christened", "dubbed", "baptised", "labelled", "entitled", "termed", "renamed", "known as",
)  # fmt: skip
_ARTICLES = {"thing": ("a {v}", "a {v}", "the {v}", "{v}", "one {v}", "every {v}"), "food": ("{v}", "{v}", "only {v}")}
_WHAT = {
    "thing": ("what", "what", "which thing", "what thing"), "person": ("whom", "who", "which person"),
    "place": ("what place", "which place", "where"), "town": ("what place", "which town", "where"),
    "money": ("how much", "what sum", "how much money"), "number": ("what number", "which number", "what"),
    "food": ("what", "which food", "what food"), "word": ("what word", "which word", "what"),
    "time": ("what time", "what hour"), "year": ("what year", "which year"),
    "date": ("what day", "which day", "what date"), "trade": ("what",),
}  # fmt: skip
_THE = {
    "thing": "thing", "person": "person", "place": "place", "town": "place", "money": "sum", "number": "number",
    "food": "food", "word": "word", "time": "hour", "year": "year", "date": "day", "trade": "trade",
}  # fmt: skip
_WHERE = {"place": "where", "town": "where", "time": "when", "year": "when", "date": "when"}


# Statements of a verb: with any object, with one behind a preposition, with a plain one.
_SAID = (
    "{e} <past> <v><end>", "{e} <past> <v><end>", "{e} has <part> <v><end>", "{e} had <part> <v><end>",
    "[It is|It was] <v> that {e} <past><end>",
    "{e} [had to|wanted to|used to|would|will|did|could|must] <base> <v><end>",
    "<Told> that {e} <past> <v><end>",
    "<Adverb>[,|] {e} <past> <v><end>",
    "[When|While|Since] <clause>, {e} <past> <v><end>", "{e} <past> <v>, <told> <actor>.",
    "{e} [never|only|always|once|again|finally|probably] <past> <v><end>", "{e} did [indeed |]<base> <v><end>",
    '"{e} <past> <v>," <told> <actor>.',
    "[There|Then|Here] {e} <past> <v><end>",
)  # fmt: skip
_SAID_BEHIND = (
    "<V>[,|] {e} <past><end>",
    "<V> it was that {e} <past>.",
    "[Where|When] {e} <past>? <V><end>",
)  # fmt: skip
_SAID_PLAIN = (
    "{v} was <part> by {e}<end>", "{v} is what {e} <past><end>", "What {e} <past> [is|was] <v><end>",
    "[The <kind>|All|The only <kind>|The first <kind>|The one] that {e} <past> [is|was] <v><end>",
    "[A|The] {v} was <part> by {e}<end>", "Nothing but <v> was <part> by {e}<end>",
    "What did {e} <base>? [Only|Simply|Why,|Just] <v><end>",
)  # fmt: skip
_ASKED = (
    "<What> did {e} <base>?",
    "<What> did {e} <base>?",
    "<What> has {e} <part>?",
    "<What> was it that {e} <past>?", "{e} <past> <what>?",
    "[And|So|Now] <what> did {e} <base>?",
    "<What> is {e} said to have <part>?", "{e} <past> [something|so|there|once]. <What>?",
    "<What> [would|could|might|must] {e} <base>?",
)  # fmt: skip
_ASKED_PLAIN = (
    "<What> was <part> by {e}?", "By {e}, <what> was <part>?",
)  # fmt: skip
_SAID_NOUN = (
    "{e} [is|was|became|remained] the <noun> of {v}<end>", "{e} [is|was] {v}'s <noun><end>",
    "{v} calls {e} a <noun>.", "{v} has {e} as a <noun><end>",
    "[Of all things|Indeed|Once|Still], {e} was the <noun> of {v}<end>", "It was {v} whose <noun> {e} was.",
    "The <noun> of {v} [is|was] {e}<end>",
    "<Told> that {e} is the <noun> of {v}<end>",
    "{e}, the <noun> of {v}, [was much talked of|came first|is well known|was left behind].",
    "To {v}, {e} [is|was] a <noun><end>",
)  # fmt: skip
_ASKED_NOUN = (
    "Whose <noun> [is|was] {e}?", "Whose <noun> [is|was] {e}?", "Who has {e} as a <noun>?",
    "Of whom is {e} the <noun>?", "{e} is the <noun> of [whom|which person|...]?", "Who calls {e} a <noun>?",
)  # fmt: skip
_SAID_NAME = (
    "{e} [is|was|has been|had been] [also|often|later|sometimes|once|now|] <verb> {v}<end>",
    "<Told> that {e} was <verb> {v}<end>",
    "{v}, as {e} [is|was] <verb> [here|by all|at home|by the <person>|in <place>].",
    "<Verb> {v}, {e} [was gone|is well known|came too late].",
    "{e}, <verb> {v}, [was gone|is well known|came too late].",
    '{e} was <verb> "{v}" [by <actor>|in <place>|at once].',
    "{e}, or {v}, as [they|people|<actor>] [say|said|had it|put it]<end>",
    "{v} is what [they|people|some] [say for|have for|use for] {e}<end>",
    "[Some|Many|Others|Sailors|Children] [say|prefer|write] {v} [for|instead of] {e}<end>",
)  # fmt: skip
_ASKED_NAME = (
    "[What|Which word|How] [is|was] {e} <verb>?",
    "[What|Which word|How] [is|was] {e} [also|often|later|sometimes] <verb>?", "{e} was <verb> [what|how|...]?",
    "As what was {e} <verb>?",
    "[What|Which] other [name|word] [is there|do they have] for {e}?",
)  # fmt: skip


def _statements(base: str, past: str, part: str, prep: str, value: str) -> Phrasing:
    objects = tuple(prep + each for each in _ARTICLES.get(value, ("{v}",)))
    templates = (*_SAID, *(_SAID_BEHIND if prep else _SAID_PLAIN))
    starts = tuple(_capital(each) for each in objects)
    return Phrasing(
        *templates, **STATED, v=objects, V=starts, base=(base,), past=(past,), part=(part,), kind=(_THE[value],)
    )


def _questions(base: str, past: str, part: str, prep: str, value: str) -> Phrasing:
    what, thing = _WHAT[value], _THE[value]
    clauses = ("<what> {e} <past>", "<what> {e} has <part>", "<what> it [is|was] that {e} <past>")
    if prep:
        what = tuple(word if word == "where" else prep + word for word in what)
        what += (_WHERE[value],) if value in _WHERE else ()
        templates, names = _ASKED, (f"the {thing} {prep}which {{e}} <past>",)
    else:
        templates, names = (*_ASKED, *_ASKED_PLAIN), (f"the {thing} that {{e}} <past>", f"the {thing} <part> by {{e}}")
        clauses = (*clauses, "<what> was <part> by {e}")
    return Phrasing(
        *templates, *ASK[:6], *WONDER, **STATED, what=what, What=tuple(map(_capital, what)), C=clauses, N=names,
        base=(base,), past=(past,), part=(part,),
    )  # fmt: skip


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _verb(entity: str, value: str, prep: str, forms: str) -> Relation:
    base, past, part = (form.replace("-", " ") for form in forms.split("/"))
    said, asked = _statements(base, past, part, prep, value), _questions(base, past, part, prep, value)
    plain = f"{{e}} {past} {prep}{_ARTICLES.get(value, ('{v}',))[0]}."
    question = f"{_capital(prep + 'what')} did {{e}} {base}?"
    sort = "place" if value == "town" else value
    name = f"{base} {prep}{value}"
    return Relation(name, entity, sort, Wordings((plain,), (), said), Wordings((question,), (), asked))


def _noun(noun: str) -> Relation:
    lists = {**STATED, "noun": (noun,)}
    asked = Phrasing(
        *_ASKED_NOUN, *ASK[:6], *WONDER, **lists,
        N=("the person whose <noun> is {e}", "the one who has {e} as a <noun>"),
        C=("whose <noun> {e} [is|was]", "of whom {e} is the <noun>", "who has {e} for a <noun>"),
    )  # fmt: skip
    said = Wordings((f"{{e}} is the {noun} of {{v}}.",), (), Phrasing(*_SAID_NOUN, **lists))
    return Relation(f"{noun} of", "object", "person", said, Wordings((f"Whose {noun} is {{e}}?",), (), asked))


def _naming(verb: str) -> Relation:
    lists = {**STATED, "verb": (verb,), "Verb": (_capital(verb),)}
    asked = Phrasing(
        *_ASKED_NAME, *ASK[:6], *WONDER, **lists,
        N=("the [other|second|new] name of {e}", "the word by which {e} is <verb>", "the nickname that {e} got"),
        C=("[what|how] {e} [is|was] <verb>", "by which name {e} goes"),
    )  # fmt: skip
    said = Wordings((f"{{e}} was {verb} {{v}}.",), (), Phrasing(*_SAID_NAME, **lists))
    return Relation(f"{verb} word", None, "word", said, Wordings((f"What was {{e}} {verb}?",), (), asked))


def _all() -> tuple[Relation, ...]:
    found = [*map(_noun, _NOUNS), *map(_naming, _NAMED)]
    for line in _TABLE.strip().splitlines():
        entity, value, prep, *verbs = line.split()
        found += [_verb(entity, value, "" if prep == "-" else prep + " ", forms) for forms in verbs]
    return tuple(found)


VERBS: tuple[Relation, ...] = _all()
