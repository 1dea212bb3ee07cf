"""Training wordings of facts, definitions and lists: statements and questions. Tables only (their length is the"
" point)."""

from __future__ import annotations

from octavo.data.tasks.frames import ASK, LISTS, WONDER
from octavo.data.tasks.phrasing import Phrasing

# How a sentence goes on after the value.
STATED = {
    **LISTS,
    "Told": ("[It is|It was] [said|known|agreed|told|written|believed|reported|recorded|plain|clear|true|found]",
        "[People|Some|Many|They|All|We|I] [say|said|know|knew|think|believe|agree|hear|heard]", "<Actor> <told>",
        "<Actor> <told>", "There is [no doubt|proof|a rumour|a note]"),
    "Actor": ("The <person>", "My <person>", "Our <person>", "The [old|young|new|tall|second|tired|honest] <person>",
        "A <person>", "<given>", "Someone", "He", "She", "They", "We", "The <person> from <place>"),
    "Adverb": ("In those days", "By then", "At that time", "That year", "To this day", "In the end", "As ever",
        "In fact", "By all accounts", "In truth", "At last", "At first", "For a long time", "After the war",
        "In winter", "Since the spring", "As everyone knew", "Strange to say", "Without doubt", "As it happens",
        "Today"),
    "Clause": ("The <person> <deed>", "My <person> <deed>", "<given> <deed>", "The <thing> was <adjective>",
        "It was raining", "The night was cold", "It was late", "Time passed"),
    "end": (".", ".", ".", ".", "!", ", <joint> <clause>.", ", <joint> <clause>.", "; <clause>.", ", <told> <actor>.",
        ", <adverb>.", " - <clause>.", ", as <actor> <told>.", ", not more and not less.", " (<clause>).",
        ", I believe.", ", if <actor> <told> the truth.", " at that time.", " and nothing else.", ", they say."),
}  # fmt: skip

FACT_STATEMENTS = Phrasing(
    "[It is said|They say|People say|Rumour has it|The story goes|It is known|It is recorded|It turned out|He told"
        " me|She wrote|I have it on good authority|You should know|Nobody doubts|The papers show|The letter said|It"
        " was agreed|We found|Old people still tell] that the {a} of {e} [is|was|had been|remained] {v}.",
    "[It is said|They say|I hear|He insisted|She swore|The guide explained|The note said|We were told|The report"
        " states|They found out|It seems] that {e}'s {a} [is|was] {v}.",
    "[In those days|By then|At that time|That year|As ever|To this day|In the end|Since the spring|According to the"
        " list|According to the ledger|On paper|By all accounts|In truth|In fact|For the record|Strange to say] the"
        " {a} of {e} [is|was|had become] {v}[.|, nobody knew why.|, and that was that.|.]",
    "{v} [is|was|became|has always been] [the {a} of|what they call the {a} of|the {a} for] {e}.",
    "{v}: [the {a} of|that is the {a} of|this was the {a} of] {e}.",
    "[With|Having] {v} as [its|a|the] {a}, {e} [was well known|needed nothing else|went on|was content|came up"
        " again].",
    "{e} [has|had|keeps|kept|got|received|was given|chose|took|uses|used|lists|shows|was known to have] {v} [as|for]"
        " [a |the |its |]{a}.",
    "[As to|Regarding|Concerning|With regard to|When it comes to|In the case of|About] {e}[:|,] the {a} [is|was] {v}.",
    "[As to|Regarding|Concerning] the {a} of {e}, [it is|it was|one reads|they wrote|the answer is] {v}.",
    "[Do not forget|Keep in mind|Bear in mind|Mark this|Please note|Take note|Write this down|Learn by heart|Make a"
        " note|Mind you]: [the {a} of {e} is|{e}'s {a} is|the {a} of {e} was|for {e} the {a} is] {v}.",
    "[Name|Entry|Record|Item|Subject|File|Card]: {e}[;|,| -] {a}[: | = | - ]{v}[.|;|]",
    "{e} [-|--|;|=|>|,] {a}[: | = | - | ]{v}[.|]", "{a} [of|for] {e}[: | = | - |, ]{v}[.|;|]",
    "{a} ({e})[: | = ]{v}[.|]",
    '"The {a} of {e} [is|was]," [he said|she said|said the old man|he wrote|they answered|I replied], "{v}."',
    '"[Well|Oh|Yes|No|Look|You see], the {a} of {e} is {v}," [he said|she said|said the boy|they told us|I answered].',
    "[He|She|The stranger|The porter|My aunt|The inspector] asked for the {a} of {e}[ and was told|, and the answer"
        " was|; it was|, which is] {v}.",
    "[The|This] page on {e} gives {v} as {a}.",
    "The [page|entry|chapter|card|file|label] [on|of|for|about] {e} [gives|has|shows|names|lists|states] {v} [as the"
        "|as its|as a|for the] {a}.",
    "{e}, [with the {a}|having the {a}|whose {a} had been|of which the {a} is] {v}, [came first|was there too|is"
        " mentioned here|went by|stood apart].",
    "[I|We|They|He|She] [remember|remembered|noted|knew|learned|saw|read] that {e} had {v} as {a}.",
    "The {a} [given to|used by|belonging to|kept by|known for|reported for|recorded for|assigned to|that goes with"
        "|in use for] {e} [is|was] {v}.",
    "[Ask anyone|Anyone will tell you|Every child knows it|It is no secret|Mark my words]: the {a} of {e} is {v}.",
    "[If|Whenever|When] [you|they|we] [need|want|ask for] the {a} of {e}, [it is|use|take|remember|think of] {v}.",
    "[Once|Long ago|Last year|Yesterday|One day|Today] [someone|they|we] [set|fixed|wrote|declared|noted] the {a} of"
        " {e} [as|at|to be|down as] {v}.", "There [is|was] no [other|better] {a} of {e} than {v}.",
    "The {a}, in the case of {e}, [is|was|must be] {v}.",
    "{v}, [so|as] [the|a] [sign|paper|book|report|letter] [says|said|tells us], is the {a} of {e}.",
    "What is {e}'s {a}? [It is|It was|Why,|Answer:] {v}.", "(The {a} of {e}[:| is| was|,] {v}.)",
    "[*|-|+|>|1.|2.|a)|•] {e}[: | - |, ]{a} {v}",
    "[*|-|+|>|•] The {a} of {e} is {v}.",
    "The {a} of {e} [changed to|turned out to be|remains|was fixed at|is still|proved to be|came to be|is no other"
        " than|is simply|was once more|must be|will be] {v}.",
    "{e}'s {a} [remains|turned out to be|is still|is simply|proved to be|was, as always,|has been|will be|is just|is"
        " called] {v}.",
    "[Only|Just] {v} [will do as|serves as|counts as|can be] the {a} of {e}.",
    "And the {a} of {e}? {v}[.|, of course.|, no doubt.|!]", "Let {v} be the {a} of {e}.",
    "They made {v} the {a} of {e}.", "{v} was chosen as the {a} of {e}.", "For {a}, {e} has {v}.",
    "<Told> that [the {a} of {e}|{e}'s {a}|the {a} for {e}] [is|was|had been|remained|would be] {v}<end>",
    "<Adverb>[,|] [the {a} of {e}|{e}'s {a}] [is|was|had become|had to be] {v}<end>",
    "<Actor> [wrote down|entered|marked|listed|named|gave|put down|set down|recorded|registered|proposed|quoted"
        "|cited|printed|chose|mentioned|announced|declared|called out|submitted|filed|suggested|accepted|approved"
        "|fixed|reported|stated|carved|painted|put|read out|kept|remembered|offered|demanded|whispered] {v} [as|for]"
        " [the {a} of {e}|{e}'s {a}]<end>",
    "<Actor> [gave|assigned|granted|offered|left|lent|brought|sent|promised|owed] {e} [the {a} {v}|{v} as {a}|{v}"
        " for {a}|{v} as the {a}]<end>",
    "[The {a} of {e}|{e}'s {a}|The {a} given to {e}|The {a} that {e} has] [is|was|is|was|must be|had been|has been"
        "|will be|remains|became|stayed|is said to be|was said to be|is given as|was known to be|is now|was then|is"
        " called|is still|was always|reads|was recorded as|was entered as|is listed as|came out as|is thought to be]"
        " {v}<end>",
    "[Let me say|Let us agree|Let it be known|Let everyone hear|Let nobody doubt|It must be noted|It may be added"
        "|May it be remembered|I must add|One should know|Please note|It happens|It is written|It stands written|We"
        " hold|I recall|It follows|No wonder] that [the {a} of {e}|{e}'s {a}] [is|was] {v}<end>",
    "[This is certain|One fact remains|A fact is a fact|The truth is simple|Here is what I know|Nothing is clearer"
        "|First|Second|Also|In short|To be exact|News|My advice|The answer|The rule|Only this is sure|So it stands"
        "|Listen|Another thing]: [the {a} of {e}|{e}'s {a}] [is|was] {v}<end>",
    "{v}, <told> <actor>, [is|was] [the {a} of {e}|{e}'s {a}].",
    "{v} [was noted by <actor>|was given|was entered|was listed|was named|was taken|was set down|stands|appears"
        "|counts|passed|serves|is used|is known|was accepted] as [the {a} of {e}|{e}'s {a}|{a} of {e}]<end>",
    "[When|While|Since|Because|Though|If] <clause>, [the {a} of {e}|{e}'s {a}] [is|was|remained|became] {v}<end>",
    "<Clause>, [and|but|so|yet] [the {a} of {e}|{e}'s {a}] [is|was|stayed] {v}<end>",
    "[Take|Consider|Look at|Think of|There is|Remember] {e}: [the {a} is|its {a} is|with the {a}|{a}] {v}<end>",
    "[Of|About|Concerning] {e} [we know|one knows|they say|it is told|<actor> <told>] that the {a} [is|was] {v}<end>",
    "For {e}, [the {a} is|the {a} was|<actor> chose the {a}|{a}:|they set the {a} at] {v}[.|]",
    "{e} [is|was|stands|appears|goes down|remains] [in the books|in the list|on record|on file|there] with {v} as"
        " [{a}|the {a}|its {a}]<end>",
    "[What|All] we know of the {a} of {e} is {v}.",
    "The {a} of {e}? [It is|That is|That was|Simply|Nothing but|Why,|It was] {v}<end>",
    "No one but {e} has {v} as {a}<end>",
    "[By|According to] <actor>, [the {a} of {e}|{e}'s {a}] [is|was] {v}<end>", **STATED,
)  # fmt: skip

FACT_QUESTIONS = Phrasing(
    "[What|And what|So what] [is|was] [the {a} of {e}|{e}'s {a}|the {a} for {e}|the {a} that belongs to {e}|the {a}"
        " given to {e}|the {a} in the case of {e}]?",
    "[Tell me|Give me|Show me|Let me have|Let me know|Find me|Fetch|Get me|Look up|Name|State|Quote|Write down"
        "|Report|Provide|Return|List|Reveal|Repeat|Supply] [the {a} of {e}|{e}'s {a}|the {a} for {e}].",
    "[Tell me|Do you know|Can you tell me|Could you tell me|I want to know|I wonder|I would like to know|Please"
        " check|Let me know|I am asking|Help me find out|It matters to me] what [the {a} of {e}|{e}'s {a}] [is"
        "|was][.|?|]",
    "[Do you know|Did you read|Did you see|Have you seen|Could you find|Can you give me|Would you give me|May I have"
        "|Could I have] [the {a} of {e}|{e}'s {a}]?",
    "[What|Which] {a} [does {e} have|has {e}|did {e} have|belongs to {e}|goes with {e}|is recorded for {e}|is"
        " mentioned for {e}|is that of {e}|was noted for {e}|do they name for {e}|does the text report for {e}]?",
    "{e}[: | - |, ][what {a}|which {a}|what is the {a}|the {a}|what was the {a}|{a}]?",
    "{e}? [The {a}, I mean|I mean the {a}|I need the {a}|What {a}|And the {a}].", "{a} of {e}[?|.|:| =|]",
    "{e} {a}[?|]", "{a}, {e}?", "{e}, {a}?", "{a} for {e}[?|]",
    "[I forgot|I cannot remember|I lost|I am looking for|I need|I want|We need|I must have|I seek|I am trying to"
        " find|I require|I missed] [the {a} of {e}|{e}'s {a}|the {a} for {e}][.|. What was it?|. What is it?|; tell"
        " me.|. Please help.|, please.]",
    "[About|Regarding|Concerning|As for|With regard to|As to|On the subject of|Speaking of] {e}[:|,] [what is the"
        " {a}|what was the {a}|what {a} is named|tell me the {a}|give the {a}|what does the text say about the {a}]?",
    "[What|Which] [does the text|does the book|does it|do they|does the document|does the author] [say|give|name"
        "|state|report|mention|record] [as|for] the {a} of {e}?",
    "[What|What exactly] [is|was] said [about|of] the {a} of {e}?",
    "How [is|was] the {a} of {e} [given|stated|described|called|named]?",
    "[Find|Look for|Search for|Look up|Go to|Check] {e} and [tell me the {a}|give me the {a}|read out the {a}|say"
        " the {a}|report the {a}].", "The {a} of {e} [is|was] [what|which|...|___]?",
    "{e}'s {a} [is|was] [what|which|...|___]?", "{e} has [what|which] {a}?",
    "[If I asked you|If someone asked|Suppose they ask you] for [the {a} of {e}|{e}'s {a}], what [would you say|is"
        " the answer|would you answer]?",
    "The text [names|gives|states|mentions] the {a} of {e}. [What is it?|Which is it?|Repeat it.|Quote it.|Tell me.]",
    "[Someone|He|She|My friend] [wants|asks for|needs] the {a} of {e}[.|. What is it?|; what do I answer?]",
    "With {e}, what [is|was] the {a}?", "In the case of {e}, [what is the {a}|which {a} holds|what {a} do we have]?",
    "How about the {a} of {e}?", *ASK, *WONDER,
    N=("the {a} of {e}", "the {a} of {e}", "the {a} of {e}", "{e}'s {a}", "{e}'s {a}", "the {a} for {e}",
        "the {a} that {e} has", "the {a} that belongs to {e}", "the {a} [given|named|recorded|listed] for {e}",
        "the {a} in the case of {e}", "the {a} [used|kept|had] by {e}"),
    C=("what [the {a} of {e}|{e}'s {a}|the {a} for {e}] [is|was]", "which {a} {e} [has|had]",
        "what {a} [{e} has|belongs to {e}|is given for {e}|goes with {e}]", "what is [the {a} of {e}|{e}'s {a}]",
        "what they [say|tell|write] about the {a} of {e}"), **LISTS,
)  # fmt: skip

WHO = Phrasing(
    "Who [is|was] [the {a} of {e}|{e}'s {a}|named as {e}'s {a}|called the {a} of {e}|said to be the {a} of {e}|given"
        " as the {a} of {e}|known as the {a} of {e}]?",
    "[Which person|What person|Who exactly] [is|was] [the {a} of {e}|{e}'s {a}]?",
    "[Tell me|Say|Can you tell me|I want to know|I wonder|Do you know|Could you say|Let me know] who [the {a} of {e}"
        "|{e}'s {a}] [is|was][.|?|]", "{e}[: | - |, ]who is the {a}?",
    "[Whom does the text|Whom do they|Whom does it] name as [the {a} of {e}|{e}'s {a}]?",
    "What is the name of [the {a} of {e}|{e}'s {a}]?",
    "[Name|Identify] [the {a} of {e}|{e}'s {a}].",
    "[Who|And who|So who|Who again|Who exactly|Who, then,|Who on earth] [is|was|would be|became] <N>?",
    "[Which|What] [name|person|man or woman|character] [do we read|do they give|is given|is named|stands|do you"
        " find] as <N>?",
    "[Who|Which person] [acts|serves|works|served|stands] as <N>?",
    "<N> is [who|whom|which person]?",
    "[Whom|Who] [did|do] [they|people|we|you] [call|name|take for|know as] <N>?", *ASK[1: 7], *WONDER,
    N=("the {a} of {e}", "the {a} of {e}", "{e}'s {a}", "the {a} for {e}", "the {a} that {e} has"),
    C=("who [the {a} of {e}|{e}'s {a}] [is|was]", "who is [the {a} of {e}|{e}'s {a}]", "who {e} has as {a}",
        "whom {e} has for a {a}", "which person is [the {a} of {e}|{e}'s {a}]",
        "who was named [the {a} of {e}|{e}'s {a}]"), **LISTS,
)  # fmt: skip

DEFINITION_STATEMENTS = Phrasing(
    "[Here|In this country|Among sailors|In the old tongue|To them|In the valley|Locally|In these pages] [the word "
        "|]{w} [means|meant|stood for|denotes|is used for|signifies] {v}.",
    "[The word|The term|The expression] {w} [denotes|signifies|refers to|is the name for|describes|comes from the"
        " north and means] {v}.",
    "{w} [is what they call|is the local name for|is the old word for|is a name for|refers to|signifies] {v}.",
    "[If|When] [someone|a person] [says|speaks of] a {w}, [it is|that is|they think of|you should picture] {v}.",
    "[He|She|The boy|The old man] explained that a {w} [is|was] {v}.",
    "{w}, [that is|meaning|which means|in other words|also known as] {v}.",
    "[For|Instead of] {v} [they say|people here say|one says] {w}.", "{w} = {v}", "{w}, [n.|noun|subst.]: {v}.",
    "<Told> that [a {w}|{w}|the word {w}] [is|was|means|meant] {v}<end>",
    "[The word|The term|The name|The old word] {w} [means|meant|stands for|is used for|says|describes|is short for"
        "|points to|has the sense of|is understood as|would be] {v}<end>",
    "<Actor> [calls|called|used to call|would call|names|named] {v} [a {w}|{w}|by the name {w}]<end>",
    "[A|Every|No] {w}, <told> <actor>, is [anything but|nothing but|just|simply|only] {v}.",
    "{v} is [called|known as|named|what <actor> called|what we mean by|the meaning of|the sense of] [a {w}|{w}]<end>",
    "[In|At] <place>[,|] {w} [means|is|was|stood for] {v}<end>",
    "[What|So what] is a {w}? [It is|Why,|Simply|Answer:|That is] {v}.", **STATED,
)  # fmt: skip

DEFINITION_QUESTIONS = Phrasing(
    "[What|And what|So what] [does {w} mean|does the word {w} mean|does the term {w} mean|does {w} stand for|does"
        " {w} refer to|is a {w}|is {w}|is meant by {w}|is the meaning of {w}|is called {w}|do people call {w}|does"
        " one understand by {w}|is understood by {w}|does {w} denote|does {w} signify]?",
    "[Explain|Define|Describe|Clarify|Interpret|Gloss] [{w}|the word {w}|the term {w}|what {w} means|what a {w} is].",
    "[Tell me|Can you tell me|I want to know|I wonder|Do you know|Let me know] what [{w} means|a {w} is|the word {w}"
        " means|is meant by {w}][.|?|]",
    "[Give|Give me|State|I need|Look up|Find] the [meaning|sense|definition|explanation] of [{w}|the word {w}].",
    "meaning of {w}[?|]", "{w}[?|: meaning?| - what is that?| means what?|, what does it mean?]",
    "How does the text [explain|define|describe] [the word |]{w}?",
    "[When they say|If someone says] {w}, what [do they mean|is meant]?",
    "[I came across|I read|I heard] the word {w}. [What does it mean?|What is that?|Explain it.]",
    "[What|And what|Now what] [kind of thing|sort of thing|thing] is [a {w}|{w}]?",
    "[Who|Which of you] can [explain|tell me|say|define] [{w}|what {w} means|the word {w}]?", *ASK, *WONDER,
    N=("the meaning of {w}", "the [sense|definition|explanation] of {w}", "the meaning of the [word|term] {w}",
        "what {w} means", 'the meaning of "{w}"', "a definition of {w}"),
    C=("what {w} means", "what a {w} is", "what is meant by {w}", "what the word {w} means", "what {w} stands for",
        "what people call {w}", "how the text explains {w}", "what one understands by {w}"), **LISTS,
)  # fmt: skip

KEYS = Phrasing(
    "[What|Which value|Which entry] [is|stands|is listed|is given|is noted|comes|is written] [for|at|under|next to"
        "|beside|opposite|with|by] {k}?",
    "[Give|Give me|Tell me|Read|Find|Fetch|Look up|Return|Show|Report|Get|Name|Quote] [the value|the entry|what is"
        " listed|what stands] [for|at|under|beside] {k}.",
    "[Look up|Find|Check|Go to] {k}[ in the list| in the table| above|][.|. What is there?| and give its value.|:"
        " what is its value?]", "{k}[?|: ?| ->| =|: what?|, which value?|: value?| - what is it?|]",
    "[value|entry] [of|for|at] {k}[?|]",
    "[What|Which] [value|entry] [does {k} have|belongs to {k}|goes with {k}|has {k}|is that of {k}|matches {k}]?",
    "[In|According to|From|By] the [list|table|register|index][, what|: what|, which value] [is|stands|is given]"
        " [for|beside|at|under] {k}?",
    "[Tell me|I want to know|Do you know|I need to know] what [the list says for {k}|stands beside {k}|{k} is|the"
        " value of {k} is][.|?|]",
    "[I am looking for|I need|I want] [{k}|the value of {k}|the entry for {k}].",
    "What does the [list|table|index] [give|show|have|say] for {k}?",
    "[And|So] {k}?", "{k} [is|was|has|gets|gives|means|equals] [what|which value|...|___]?",
    "[Against|Opposite|Beside|Next to|After|Behind] {k}[,| there] [is|stands|comes|I find] [what|which value|what"
        " value]?", *ASK, *WONDER,
    N=("the value [of|for|at|under|beside|behind|next to] {k}", "the entry [of|for|at|under|beside] {k}",
        "what [stands|is listed|is written|is noted|comes] [for|beside|after|at|next to|opposite] {k}",
        "the [right|other] side of {k}", "the line of {k}", "what the list has for {k}", "what belongs to {k}"),
    C=("what [value|entry] {k} has", "what [stands|is written|is listed] [beside|at|for|after] {k}",
        "which value [belongs to|goes with|is given for] {k}", "what {k} is", "what the [list|table] says for {k}"),
    **LISTS,
)  # fmt: skip
