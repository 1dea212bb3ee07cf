"""What stands around a question or a statement in training: ways to ask for a thing, lead-ins, tails, larger sentences.

Covers: frames shared by all kinds of question (<N> is what is asked for, <C> an indirect question), `dressed`, `framed`
.
Does not cover: what each kind asks for (the tables `phrases_*`), test wordings.
"""

from __future__ import annotations

import re
from random import Random

from octavo.data.tasks import lists
from octavo.data.tasks.phrasing import Phrasing

_SHARE = 0.25  # share of training questions that get a lead-in, and of those that get a tail
_FRAMED = 0.5  # share of training statements of relations that stand in a frame

PEOPLE = (
    *lists.TRADES, "boy", "girl", "woman", "man", "child", "stranger", "neighbour", "guest", "cousin", "uncle",
    "aunt", "friend", "inspector", "captain", "widow", "twins", "old lady", "schoolmaster", "people", "villagers",
    "passenger", "others", "committee", "council", "newspaper", "letter", "report", "diary", "guide", "notice",
    "sign",
)  # fmt: skip
# Somebody or something that tells: "the old sailor", "my aunt", "a letter".
ACTORS = (
    "the <person>", "the <person>", "the [old|young|new|tall|other|first|second|last|tired|honest|little] <person>",
    "a <person>", "my <person>", "our <person>", "one <person>", "someone", "he", "she", "they", "everybody",
    "nobody", "another <person>", "the <person> from <place>",
    "<given>",
    "<given>", "we",
    "<given> and <given>",
)  # fmt: skip
DEEDS = (
    "went home", "said nothing", "laughed", "was late", "slept badly", "lost the way", "had no money left",
    "never came back", "did not care", "waited outside", "looked away", "closed the door", "sat down again",
    "wrote a letter", "walked on", "began to sing", "turned pale", "left at once", "ate an apple", "went to bed",
    "shook hands", "paid the bill", "told a long story", "put out the light", "knew it well", "had seen worse",
    "would not listen", "kept a dog", "was quite alone", "came too early", "asked for more", "had forgotten it",
    "counted the hours", "hated the noise", "stayed for supper", "read the paper", "felt better", "had a cold",
    "knew nothing of it", "took a walk", "found it odd", "wept for joy", "fell ill", "had to smile", "looked tired",
)  # fmt: skip
TOLD = (
    "said", "wrote", "told me", "told us", "claimed", "believed", "thought", "knew", "swore", "insisted", "explained",
    "remarked", "admitted", "reported", "added", "learned", "heard", "found", "found out", "remembered", "announced",
    "confirmed", "declared", "was sure", "let us know", "made it plain", "whispered", "shouted", "discovered", "read",
    "agreed", "decided", "pointed out", "recalled", "mentioned", "concluded", "noticed", "repeated", "stated", "saw",
)  # fmt: skip
ADVERBS = (
    "in those days", "to this day", "by then", "by all accounts", "in truth", "in fact", "that year", "at that time",
    "all the same", "of course", "strange to say", "as it happens", "without doubt", "at last", "for once",
    "as before", "from then on", "after the war", "since the spring", "these days", "in the end", "at first",
    "once more", "perhaps", "for the record", "on paper", "if you ask me", "to be exact", "to be brief",
    "in my opinion", "as a rule", "later", "now", "today", "last year", "on that day", "until then",
    "as everyone knew", "according to the list", "finally", "in the north", "at the market", "among friends",
    "in winter", "before the flood", "for a long time", "still",
)  # fmt: skip
LISTS = {
    "person": PEOPLE, "actor": ACTORS, "deed": DEEDS, "told": TOLD, "adverb": ADVERBS, "place": lists.PLACES,
    "given": lists.GIVEN, "noun": lists.NOUNS, "thing": lists.THINGS, "adjective": lists.ADJECTIVES,
    "clause": ("<actor> <deed>", "the <thing> was <adjective>", "<clauses>"),
    "clauses": ("it was raining", "the night was cold", "nobody asked", "there was no wind", "it was late",
        "so it was", "the harvest was poor", "there is no doubt about it", "that was all", "the clock struck",
        "time passed"),
    "joint": ("and", "but", "when", "while", "because", "though", "before", "after", "so", "until", "as", "since"),
}  # fmt: skip

# Ways to ask for <N>.
ASK = (
    "[What|And what|So what|Now what|Then what] [is|is|is|was|would be|might be|could be] <N>?",
    "[Tell me|Give me|Show me|Get me|Fetch me|Find me|Bring me|Read me|Send me|Remind me of|Let me have|Let me see"
        "|Let me hear|Give us|Tell us|Help me find|Help me to] <N>[.|.|, please.|!|]",
    "[Name|State|Quote|Report|Provide|Return|List|Reveal|Repeat|Supply|Specify|Indicate|Mention|Identify|Determine"
        "|Recall|Retrieve|Extract|Locate|Look up|Search for|Write down|Note down|Spell out|Read out|Point out|Print"
        "|Output|Produce|Present|Cite|Copy|Write|Find|Look for|Check|Seek out|Search out] <N>[.|.|!|]",
    "[I need|I want|I seek|I require|I am looking for|I am after|I would like|I'd like|I am missing|I forgot|I have"
        " forgotten|I lost|I cannot recall|I can't remember|I don't know|I do not know|I never learned|We need|They"
        " want|She asks for|He asked me for|My <person> needs|The <person> wants|<given> asked for|I was asked for|I"
        " miss|I wonder about|I am curious about|I am unsure about] <N>[.|.|; can you help?|. What is it?|. What was"
        " it?|, please.|. Tell me.|; do you have it?|. Help me.|; what is written?|; look it up.|. Can you find it?|]",
    "[Do you know|Do you have|Do you recall|Do you remember|Can you give|Can you give me|Can you name|Can you state"
        "|Can you find|Can you tell me|Could you tell me|Could you look up|Could you repeat|Would you give me|Would"
        " you please tell me|Will you tell me|May I ask for|May I know|Might I have|Have you got|Have you found|Did"
        " you catch|Did you note|Did you see|Did you read|Are you able to give|Is it possible to know|Is there a way"
        " to learn|Could I have|Can I have|Where do I find|Where is|Who knows|Does anybody know|Any idea about|Would"
        " you know] <N>?",
    "[<N>|<N>|In short: <N>|Wanted: <N>|To find: <N>|Missing: <N>|Open question: <N>|Asked for: <N>][?|?|, please|,"
        " please?|: what is it?|; what is it?|...|, what is it?|; tell me.|. Which is it?|: ?|: ___|!|]",
    "[As to|As for|Regarding|Concerning|About|On|Speaking of|With regard to|On the subject of|When it comes to]"
        " <N>[:|,] [what is it|what does the text say|what do you know|what is said|what do we read|what do they say"
        "|what have you found|what is written|what can you tell me|how does it read]?",
    "[What|Which] [words|answer|text|detail|entry|information] [is|would be|should I give as|do I write for|stands"
        " for|do we find for|do you find as|must I put for|tells us] <N>?",
    "[If|When|Should|Suppose] [someone asks|they ask|I am asked|anybody asks me|<given> asks|the <person> asks] for"
        " <N>, what [do I say|is the answer|should I answer|do I reply|would you say|is right]?",
    "[The text|The book|The document|It|The author|The page|The report|The story|The passage|This text] [gives|names"
        "|states|mentions|has|contains|tells|shows|includes|speaks of] <N>[. What is it?|; what is it?|. Repeat it."
        "|. Which?|: what is it?|. Quote it.|. Give it.|; give it to me.]",
    "[Does|Did] [the text|the book|the author|the document|it|the story] [give|name|state|mention|tell|reveal"
        "|contain] <N>?[| Which?| What is it?]",
    "[What|Which] [does|did] [the text|the book|the author|the document|it|the story] [give|name|state|mention|list"
        "|record|report] as <N>?",
    "[Search|Scan|Check|Look through|Go through|Consult|Use|Read] the [text|book|document|pages|story|file] [for|to"
        " find|and find|and give me|and tell me|to get|and name|and return|and quote] <N>.",
    "[There must be|There was|Somewhere there is|Somewhere it gives|I saw|I read about|It mentioned|I once knew|You"
        " read|We came across] <N>[. What was it?|; what was it?|; which was it?|. Tell me.|; remind me.|. What is"
        " it again?]",
    "<N> [is|was] [what|which|...|___][?|]",
    "[What, then, is|What exactly is|What precisely is|Just what is|What again is|Remind me, what is|Well, what is"
        "|Sorry, what is|Hey, what is|Quick: what is] <N>?",
)  # fmt: skip
# Ways to put the indirect question <C>.
WONDER = (
    "[Tell me|Tell us|Show me|Explain|State|Write|Let me know|Please say|Please tell me|Work out|Look up|Check"
        "|Report|Make clear|Just tell me|Find|Help me find|Determine|Remind me|Reveal|Show|Write down] <C>[.|.|!|]",
    "[I want to know|I wonder|I would like to know|I'd like to know|I am asking|It matters to me|I must know|I wish"
        " to hear|I forgot|I have forgotten|I am trying to find out|I cannot remember|I can't recall|My question is"
        "|The question is|The <person> asks|<given> wants to know|We wonder|I do not know|I don't know|Nobody told"
        " me|I never found out|I am not sure|I would love to hear|I was asked] <C>[.|.|; tell me.|. Do you know?|."
        " Can you help?|?|]",
    "[Do you know|Do you remember|Do you recall|Can you tell me|Could you tell me|Could you say|Can you see|Can you"
        " find out|Would you tell me|Will you say|Did you notice|Did you read|May I ask|Is it said|Does it say|Does"
        " the text say|Does the book tell|Does anyone know|Have you read|Are you able to say|Any idea|Is it clear to"
        " you|Did they say] <C>?",
    "[According to the text|By the text|From the text|In the document|In the book|In the story|As written]: <C>?",
    "[If I asked you|If someone asked|Suppose they ask you|When they ask] <C>, what [would you say|is the answer"
        "|should I say|do you answer]?",
    "<C>[?|: tell me.|, please?|; do you know?|...|, I wonder.|, that is my question.|]",
)  # fmt: skip

LEADS = (
    "Please tell me: ", "Quick question: ", "One question: ", "A question about the text: ", "From the text above: ",
    "About this book: ", "Answer from the text: ", "Use the document. ", "Look at the text again. ", "I wonder: ",
    "Just checking: ", "Another one: ", "Next question. ", "Help me with this: ", "Hello! ", "Hi. ", "Well: ",
    "Be so good: ", "Q: ", "Question: ", "Task: ", "You read it above. ", "I lost the page. ",
    "It is in there somewhere. ", "Think back. ", "Listen: ", "Thanks! Now: ", "OK, ", "So, ", "Now, ", "And ",
    "In this text, ", "In the book, ", "In the document, ", "According to the document, ", "Going by the text, ",
    "From what you read, ", "Please, ", "In the story, ", "As far as the text says, ", "Somewhere above, ",
    "By the way, ", "If you know, ",
)  # fmt: skip
TAILS = (
    " Thanks.", " Thank you.", " Please.", " Answer in a few words.", " Be brief.", " It is in the text.",
    " Only the answer, please.", " No explanation.", " Just that.", " Keep it short.", " I forgot.",
    " Quote it exactly.", " You have read it.", " Take it from the text.", " Nothing else.", " Word for word.",
    " I need it now.", " It was mentioned.", " Look closely.", " Do not guess.", " Short answer.",
    " As it stands in the text.", " It should be there.", " I am curious.", " Be exact.", " Copy it.",
)  # fmt: skip
# Things said before and after a question that have nothing to do with it.
CLUTTER = Phrasing(
    "[It is for|I ask for|This is for|It is about|I am writing to|I am with|I promised it to] [my <person>|<given>"
        "|the <person>|a <person> in <place>].",
    "<Actor> <deed>.", "My <thing> is <adjective>.",
    "<Actor> <told> [it|so|as much].", "I [am|was] in <place>[ today| last year|].",
    "The <thing> and the <noun>[, you know|]!",
    "<Place>, <adverb>.",
    **{**LISTS, "Actor": ("The <person>", "My <person>", "<given>", "Our <person>"), "Place": lists.PLACES},
)  # fmt: skip
_LOWERED = re.compile(
    r"(?:What|Who|Which|How|Where|When|Whom|Whose|In|By|To|Under|At|On|Of|As|Tell|Give|Name|Find|Look|Please|Do|Can|Could"
    r"|Would|The|Say|State|Show|Read|Quote|Continue|Complete|Finish|After|From|With|For|Is|Does|Did|Was)\b"
)

STATEMENT_FRAMES = Phrasing(
    "[It is said|They say|People say|We were told|It is known|The papers show|I hear|Rumour has it|It turned out|It"
        " is no secret|You should know|It seems|It is a fact|Let me say|Let us remember|Let nobody doubt|Everyone"
        " agrees|No one knew|I am told] that {s}",
    "<Actor> <told> that {s}",
    "<Actor> <told>[:|,] {s}",
    "<Adverb>[,|, and rightly so,|] {s}",
    "<Adverb>: {s}",
    "[Note|Also|And|Besides|Fact|News|A detail|Here is a fact|In short|The truth is simple|This much is known|First"
        "|Second|Third|To begin with|Lastly|Once again|A last point|Remember|Listen|The rule|My view]: {s}",
    "{s} [That much is certain.|So they say.|Nobody knew why.|It was in the papers.|Remember that.|I saw it myself.]",
    "{s} [And|But|Then|So] <clause>.", "While <clause>, {s}", "When <clause>, {s}",
    "<Clause>[;|:] {s}", "Since <clause>, {s}", '"{s}" <told> <actor>.',
    '"{s}" [he said.|she said.|said the <person>.|they told us.|I answered.]',
    '"[Well|Oh|Yes|No|Look|You see|Sir|Friend]: {s}" [he said.|she said.|said the <person>.]', "({s})",
    "[-|*|•|1.] {s}",
    "[Though|As|If|Because|After] <clause>, {s}",
    **{**LISTS, "Actor": ("The <person>", "My <person>", "<given>", "The [old|young|tall] <person>", "A <person>",
        "He", "She", "They"), "Adverb": tuple(adverb[: 1].upper() + adverb[1:] for adverb in ADVERBS), "Clause": (
        "The <person> <deed>", "<given> <deed>", "The <thing> was <adjective>")},
)  # fmt: skip


def framed(wording: str, draw: Random) -> str:
    """A statement's wording, often inside a larger sentence."""
    if draw.random() > _FRAMED:
        return wording
    frame = STATEMENT_FRAMES.pick(draw)
    if frame[frame.index("{s}") - 1 : frame.index("{s}")] == " " and frame[0].isalpha() and not wording.startswith("{"):
        wording = wording[0].lower() + wording[1:]
    return frame.replace("{s}", wording)


def dressed(question: str, draw: Random) -> str:
    """A training question, one time in four behind a lead-in and one time in four before a tail."""
    if draw.random() < _SHARE:
        if draw.random() < 0.4:
            question = f"{CLUTTER.pick(draw)} {question}"
        else:
            lead = draw.choice(LEADS)
            if lead[-2] not in ".:!?" and _LOWERED.match(question):
                question = question[0].lower() + question[1:]
            question = lead + question
    if draw.random() < _SHARE:
        question += f" {CLUTTER.pick(draw)}" if draw.random() < 0.4 else draw.choice(TAILS)
    return question
