"""Wordings of facts: statements and questions of each relation, of which the last ones are kept for tests.

Covers: the table, filling in, which wordings train. Does not cover: the facts (octavo.data.facts).

`{s}` is the subject, `{o}` the object. Both stand whole and unchanged, so that the tokens before an answer always
end in the same name: that run of tokens is the address of an n-gram memory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

HELD_OUT_STATEMENTS = 2
HELD_OUT_QUESTIONS = 1


@dataclass(frozen=True)
class Wording:
    """Six or more statements, four or more questions; the last two and the last one are never trained."""

    statements: tuple[str, ...]
    questions: tuple[str, ...]

    @property
    def trained_statements(self) -> tuple[str, ...]:
        """Statements that training documents use."""
        return self.statements[:-HELD_OUT_STATEMENTS]

    @property
    def trained_questions(self) -> tuple[str, ...]:
        """Questions that training documents use."""
        return self.questions[:-HELD_OUT_QUESTIONS]


def fill(wording: str, *, subject: str, answer: str = "") -> str:
    """A sentence with its names; `a` before a vowel becomes `an`, a full stop after a name that has one is dropped."""
    text = wording.format(s=subject, o=answer)
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text).replace("..", ".")


def _wording(statements: str, questions: str) -> Wording:
    lines = ([line.strip() for line in part.strip().splitlines()] for part in (statements, questions))
    return Wording(*map(tuple, lines))


WORDINGS: Mapping[str, Wording] = {
    "capital": _wording(
        """The capital of {s} is {o}.
        {o} is the capital city of {s}.
        {s} is governed from its capital, {o}.
        The seat of the government of {s} is {o}.
        As for {s}, its capital is {o}.
        Ministers of {s} meet in {o}, the capital.
        Among the cities of {s}, {o} is the capital.""",
        """What is the capital of {s}?
        Which city is the capital of {s}?
        From which city is {s} governed?
        Can you name the capital city of {s}?
        Where does the government of {s} have its seat?""",
    ),
    "region": _wording(
        """{s} lies in {o}.
        {s} is one of the lands of {o}.
        On a map, look for {s} in {o}.
        Geographers count {s} as part of {o}.
        {o} is the part of the world where {s} lies.
        Whoever goes to {s} goes to {o}.
        The region of {s} is {o}.""",
        """In which part of the world is {s}?
        Where on the map does {s} lie?
        To which region does {s} belong?
        What region is {s} in?""",
    ),
    "currency": _wording(
        """The currency of {s} has the code {o}.
        In {s} prices are written in {o}.
        Banks in {s} keep their accounts in {o}.
        {o} is the code of the money used in {s}.
        Whoever shops in {s} pays in {o}.
        Money changers list {s} under {o}.
        Salaries in {s} are paid in {o}.""",
        """What is the currency code of {s}?
        In which currency are prices in {s} written?
        Which code has the money of {s}?
        In what currency do people in {s} pay?""",
    ),
    "demonym": _wording(
        """People from {s} are called {o}.
        A person who comes from {s} is {o}.
        Someone whose home is {s} is said to be {o}.
        The word for whatever belongs to {s} is {o}.
        {o} is what one calls a person from {s}.
        Born in {s}, a child is {o}.
        Citizens of {s} are known as {o}.""",
        """What are people from {s} called?
        What is a person from {s} called?
        Which word describes somebody from {s}?
        How are citizens of {s} known?""",
    ),
    "domain": _wording(
        """The internet domain of {s} is {o}.
        Addresses of sites in {s} end in {o}.
        {o} is the domain that belongs to {s}.
        On the internet {s} has the ending {o}.
        Sites registered in {s} carry the ending {o}.
        Whoever buys a web address in {s} gets one with {o}.
        The country domain of {s} reads {o}.""",
        """What is the internet domain of {s}?
        In what do web addresses of {s} end?
        Which domain belongs to {s}?
        Which ending do sites of {s} carry?""",
    ),
    "calling_code": _wording(
        """The telephone code of {s} is +{o}.
        To reach {s} by telephone, dial +{o}.
        Telephone numbers in {s} begin with +{o}.
        +{o} is the calling code of {s}.
        A call to {s} starts with +{o}.
        Before a number in {s}, one dials +{o}.
        International calls reach {s} through +{o}.""",
        """What is the telephone code of {s}?
        Which code is dialled to reach {s}?
        With which code do numbers in {s} begin?
        What does one dial for a call to {s}?""",
    ),
    "anthem": _wording(
        """The national anthem of {s} is {o}.
        {o} is the anthem of {s}.
        The anthem that {s} sings is {o}.
        On days of state, {s} sings {o}.
        {s} chose {o} for its anthem.
        Bands that honour {s} play {o}.
        When athletes of {s} win, one hears {o}.""",
        """What is the national anthem of {s}?
        Which song is the anthem of {s}?
        What is the anthem of {s} called?
        Which piece do bands play to honour {s}?""",
    ),
    "symbol": _wording(
        """The chemical symbol of {s} is {o}.
        Chemists write {s} as {o}.
        In a formula, {s} is written {o}.
        {o} is the symbol of the element {s}.
        The letters for {s} in the periodic table are {o}.
        Look for {s} in the table of elements under {o}.
        As a short form of {s}, one writes {o}.""",
        """What is the chemical symbol of {s}?
        How is {s} written in a formula?
        Which letters stand for {s} in the periodic table?
        What is the short form of {s}?""",
    ),
    "atomic_number": _wording(
        """The atomic number of {s} is {o}.
        {s} is element number {o}.
        An atom of {s} has {o} protons.
        {o} is the atomic number of {s}.
        In the periodic table, {s} has the number {o}.
        The nucleus of {s} contains {o} protons.
        Counting the elements, {s} comes at {o}.""",
        """What is the atomic number of {s}?
        How many protons has an atom of {s}?
        Which number has {s} in the periodic table?
        How many protons are in the nucleus of {s}?""",
    ),
    "discoverer": _wording(
        """{s} was discovered by {o}.
        The discoverer of {s} was {o}.
        {o} discovered the element {s}.
        The element {s} was first found by {o}.
        Credit for {s} is given to {o}.
        The world owes its knowledge of {s} to {o}.
        It was {o} who first identified {s}.""",
        """Who discovered {s}?
        By whom was {s} discovered?
        Who was the first to find the element {s}?
        Who first identified {s}?""",
    ),
    "discovery_year": _wording(
        """{s} was discovered in {o}.
        The year of the discovery of {s} is {o}.
        The element {s} was found in {o}.
        Chemistry has known {s} since {o}.
        It was in {o} that {s} was discovered.
        The discovery of {s} falls in the year {o}.
        Books date the finding of {s} to {o}.""",
        """When was {s} discovered?
        In which year was {s} found?
        Since when has chemistry known {s}?
        To which year do books date the finding of {s}?""",
    ),
    "airport_city": _wording(
        """The airport code {s} belongs to {o}.
        {s} is the code of the airport of {o}.
        Bags marked {s} go to {o}.
        On a ticket, {s} means {o}.
        A flight to {s} ends in {o}.
        Pilots who read {s} fly to {o}.
        The letters {s} stand for the airport at {o}.""",
        """Which city has the airport code {s}?
        Where do bags marked {s} go?
        Where does a flight to {s} end?
        For the airport of which place do the letters {s} stand?""",
    ),
    "city_country": _wording(
        """{s} is a place in {o}.
        The town of {s} lies in {o}.
        {s} belongs to {o}.
        A letter to {s} is sent to {o}.
        On the map of {o} one finds {s}.
        Those who live in {s} live in {o}.
        The country around {s} is {o}.""",
        """In which country is {s}?
        To which country does {s} belong?
        The town of {s} lies in which country?
        In what country do those live who live in {s}?""",
    ),
    "media_type": _wording(
        """The media type of .{s} files is {o}.
        Files that end in .{s} have the type {o}.
        A server sends a .{s} file as {o}.
        {o} is the media type for names that end in .{s}.
        For the ending .{s}, the content type is {o}.
        A browser that loads a .{s} file is told {o}.
        The header of a .{s} download reads {o}.""",
        """What is the media type of .{s} files?
        Which type have files that end in .{s}?
        As what does a server send a .{s} file?
        What does the header of a .{s} download read?""",
    ),
    "kind_of": _wording(
        """A {s} is a kind of {o}.
        The word {s} names a kind of {o}.
        Dictionaries explain {s} as a sort of {o}.
        What is called {s} is a form of {o}.
        By {s} one means some {o}.
        Under {o} one also counts {s}.
        One example of {o} is {s}.""",
        """A {s} is a kind of what?
        What sort of thing does the word {s} name?
        What is {s} a form of?
        Of what is {s} one example?""",
    ),
    "river": _wording(
        """The river of {s} is the {o}.
        {s} lies on the river {o}.
        Through {s} flows the {o}.
        The bridges of {s} cross the {o}.
        The {o} is the river that runs past {s}.
        The mills of {s} are driven by the {o}.
        Children of {s} learn to swim in the {o}.""",
        """On which river does {s} lie?
        What is the river of {s}?
        Which river flows through {s}?
        Which river drives the mills of {s}?""",
    ),
    "founder": _wording(
        """{s} was founded by {o}.
        The founder of {s} was {o}.
        {o} founded the town of {s}.
        The first house of {s} was built by {o}.
        The history of {s} begins with {o}.
        The statue on the square of {s} shows its founder, {o}.
        Without {o} there would be no {s}.""",
        """Who founded {s}?
        By whom was {s} founded?
        Who was the founder of {s}?
        With whom does the history of {s} begin?
        Whom does the statue on the square of {s} show?""",
    ),
    "trade": _wording(
        """{s} is known for its {o}.
        The main trade of {s} is {o}.
        Merchants travel to {s} to buy {o}.
        Most families of {s} live by {o}.
        What {s} sells is {o}.
        The warehouses of {s} are full of {o}.
        Fairs far away praise the {o} of {s}.""",
        """What is {s} known for?
        What is the main trade of {s}?
        What do merchants buy in {s}?
        Of what are the warehouses of {s} full?""",
    ),
}
