"""Facts told by a verb instead of an attribute: lived, paid, built, hid and their like, each with its own questions.

Covers: the table, wordings split as in `wordings`. Does not cover: drawing of entities and values.
"""

from __future__ import annotations

from dataclasses import dataclass

from octavo.data.tasks.wordings import Wordings


@dataclass(frozen=True, slots=True)
class Relation:
    """One verb: the sort of its entity, the sort of its value, its wordings ({e} and {v})."""

    name: str
    entity: str | None
    value: str
    statements: Wordings
    questions: Wordings


def _make(name: str, entity: str | None, value: str, said: str, asked: str) -> Relation:
    """`said` and `asked`: wordings parted by |, the last one after || for tests only."""
    said_train, _, said_test = said.partition("||")
    asked_train, _, asked_test = asked.partition("||")

    def split(text: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text.split("|"))

    return Relation(name, entity, value, Wordings(split(said_train), split(said_test)),
                    Wordings(split(asked_train), split(asked_test)))  # fmt: skip


RELATIONS: tuple[Relation, ...] = (
    _make("born", "person", "place", "{e} was born in {v}.|{v} is where {e} was born.||It was {v} that saw {e} born.",
          "Where was {e} born?|In which place was {e} born?|Tell me where {e} was born."
          "||The birth of {e} happened where?"),
    _make("lives", "person", "place", "{e} lives in {v}.|{e} had a house in {v}.||{v} is home to {e}.",
          "Where does {e} live?|In which place does {e} live?||Where is {e} at home?"),
    _make("works", "person", "trade", "{e} works as a {v}.|{e} earned a living as a {v}.||{e} makes a good {v}.",
          "What does {e} do for a living?|What does {e} work as?|As what does {e} work?"
          "||What kind of work does {e} do?"),
    _make("paid", "person", "money", "{e} paid {v} for it.|In the end {e} paid {v}.||It cost {e} {v}.",
          "How much did {e} pay?|What did {e} pay?|What sum did {e} pay?||How much was paid by {e}?"),
    _make("hid", "person", "place", "{e} hid the key in {v}.|In {v} {e} hid the key."
    "||The key was put by {e} into {v}.",
          "Where did {e} hide the key?|In what place did {e} hide the key?||Where is the key that {e} hid?"),
    _make("married", "person", "person", "{e} married {v}.|{e} was married to {v}.||The one whom {e} wed was {v}.",
          "Whom did {e} marry?|Who did {e} marry?|To whom was {e} married?||Whom did {e} wed?"),
    _make("met", "person", "person", "{e} met {v} on the road.|On the road {e} met {v}."
    "||{e} came upon {v} on the road.",
          "Whom did {e} meet on the road?|Who met {e} on the road?|Who did {e} meet?"
          "||Which person did {e} come upon?"),
    _make("carries", "person", "thing", "{e} carries a {v}.|{e} was carrying a {v}.||In the hands of {e} was a {v}.",
          "What does {e} carry?|What is {e} carrying?|What did {e} carry?||What was in the hands of {e}?"),
    _make("lost", "person", "thing", "{e} lost a {v}.|A {v} was lost by {e}.||Gone was the {v} of {e}.",
          "What did {e} lose?|What was lost by {e}?|Which thing did {e} lose?||What is it that {e} misses?"),
    _make("eats", "person", "food", "{e} eats only {v}.|{e} would eat nothing but {v}.||Only {v} is eaten by {e}.",
          "What does {e} eat?|What is the only thing that {e} eats?||What is eaten by {e}?"),
    _make("arrived", "person", "time", "{e} arrived at {v}.|At {v} {e} arrived.||It was {v} when {e} came.",
          "When did {e} arrive?|At what time did {e} arrive?||At which hour did {e} come?"),
    _make("wrote", "person", "number", "{e} wrote down the number {v}.|{v}, wrote {e}."
    "||The figure set down by {e} was {v}.",
          "Which number did {e} write down?|What number did {e} write?|What did {e} write down?"
          "||What figure did {e} set down?"),
    _make("fears", "person", "thing", "{e} is afraid of the {v}.|Nothing frightens {e} but the {v}."
    "||The {v} scares {e}.",
          "What is {e} afraid of?|What frightens {e}?|What does {e} fear?||What scares {e}?"),
    _make("built", "object", "year", "In {v} they built {e}.|{e} was built in {v}."
    "||{v} is the year when {e} was made.",
          "When was {e} built?|In which year was {e} built?|What year was {e} built in?||In what year was {e} made?"),
    _make("founded", "town", "year", "{e} was founded in {v}.|In {v} settlers founded {e}."
    "||{e} goes back to the year {v}.",
          "When was {e} founded?|In which year was {e} founded?||To what year does {e} go back?"),
    _make("founder", "town", "person", "{e} was founded by {v}.|{v} founded {e}.||It was {v} who laid out {e}.",
          "Who founded {e}?|By whom was {e} founded?|Who was it that founded {e}?||Who laid out {e}?"),
    _make("known", "town", "thing", "{e} is known for its {v}.|{e} is famous for the {v}."
    "||People visit {e} for the {v}.",
          "What is {e} known for?|For what is {e} famous?|What is {e} famous for?||What do people visit {e} for?"),
    _make("holds", "object", "thing", "There is a {v} in {e}.|{e} holds a {v}.|In {e} lay a {v}."
    "||{e} conceals a {v}.",
          "What is in {e}?|What does {e} hold?|What lies in {e}?|What can be found in {e}?||What does {e} conceal?"),
    _make("belongs", "object", "person", "{e} belongs to {v}.|{v} owns {e}.||{e} is the property of {v}.",
          "Who owns {e}?|To whom does {e} belong?|Whose is {e}?|Who does {e} belong to?||Whose property is {e}?"),
    _make("costs", "object", "money", "{e} costs {v}.|You can buy {e} for {v}.||One pays {v} for {e}.",
          "How much does {e} cost?|What does {e} cost?|What is the price of {e}?||What must one pay for {e}?"),
    _make("opens", "object", "number", "{e} opens with {v}.|To open {e}, enter {v}.||{v} is what unlocks {e}.",
          "How does one open {e}?|What opens {e}?|With what number does {e} open?||What unlocks {e}?"),
    _make("stands", "object", "place", "{e} stands in {v}.|You will find {e} in {v}."
    "||{v} is where {e} has its place.",
          "Where is {e}?|Where does {e} stand?|Where can I find {e}?|Where will I find {e}?"
          "||Where does {e} have its place?"),
    _make("made", "object", "word", "{e} is made of {v}.|They made {e} out of {v}.||{v} was used for {e}.",
          "What is {e} made of?|Of what is {e} made?|What was {e} made out of?||What was used for {e}?"),
    _make("sails", "ship", "place", "{e} sails to {v}.|{e} is bound for {v}.||{v} is where {e} will land.",
          "Where does {e} sail to?|For what place is {e} bound?|Where is {e} bound?||Where will {e} land?"),
    _make("commands", "ship", "person", "{v} commands {e}.|{e} sails under {v}.||At the helm of {e} is {v}.",
          "Who commands {e}?|Under whom does {e} sail?|Who is in command of {e}?||Who is at the helm of {e}?"),
    _make("loads", "ship", "thing", "{e} carries a load of {v}.|{v} fills the hold of {e}.||{e} was laden with {v}.",
          "What does {e} carry?|What fills the hold of {e}?|What is {e} loaded with?||With what is {e} laden?"),
    _make("makes", "company", "thing", "{e} makes every kind of {v}.|{e} sells {v}.||One buys {v} from {e}.",
          "What does {e} make?|What does {e} sell?|What can one buy from {e}?||What does one get from {e}?"),
    _make("runs", "company", "person", "{e} is run by {v}.|{v} runs {e}.||At the head of {e} one finds {v}.",
          "Who runs {e}?|By whom is {e} run?|Who is in charge of {e}?||Who is at the head of {e}?"),
    _make("leaves", "object", "time", "{e} closes at {v}.|At {v} {e} is shut.||After {v} nobody may use {e}.",
          "When does {e} close?|At what time is {e} shut?||Until when may one use {e}?"),
    _make("reads", None, "word", 'On {e} someone wrote "{v}".|{e} bears the word {v}.||The word on {e} is {v}.',
          "What is written on {e}?|Which word does {e} bear?|What did someone write on {e}?"
          "||What can be read on {e}?"),
    _make("called", None, "word", "{e} is also called {v}.|People call {e} {v}.||{v}, as {e} is sometimes called.",
          "What is {e} also called?|What do people call {e}?||What else is {e} called?"),
    _make("code", None, "number", "{e} has the code {v}.|Code for {e}: {v}.||To {e} was given the code {v}.",
          "What is the code of {e}?|What is the code for {e}?|Which code does {e} have?"
          "||What code was given to {e}?"),
)  # fmt: skip
