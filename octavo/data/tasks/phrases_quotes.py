"""Training wordings of questions about quoted words: the rest, the next line, the speaker, the chapter. Tables only."""

from __future__ import annotations

from octavo.data.tasks.frames import ASK, LISTS, WONDER
from octavo.data.tasks.phrasing import Phrasing

# How the quoted words look: marks of several kinds, with or without a word for what they are.
_MARKED = (
    '"{q}"', '"{q}"', '"{q}"', '"{q}"', "“{q}”", "“{q}”", "'{q}'", "‘{q}’", "«{q}»", '"{q} ..."', '"{q}..."',
)  # fmt: skip
_Q = (
    *_MARKED, *_MARKED,
    '[the|these|those|my|his|her|such] [words|lines] "{q}"',
    'the [words|text|piece|fragment|part|bit|passage|quote|quotation] "{q}"',
)  # fmt: skip
_L = (
    *_MARKED, *_MARKED,
    '[the|this] [line|verse|speech|sentence|phrase|quote] "{q}"', 'the [words|lines] "{q}"',
)  # fmt: skip

QUOTE = Phrasing(
    '[How|In what way|In which way] does ["{q}"|the sentence "{q}"|the passage "{q}"|the text "{q}"] [go on|continue'
        '|run on|end|finish|close]?',
    '[How|In what manner] do the words "{q}" [go on|continue|run on|end]?',
    '[Continue|Complete|Finish|Extend|Resume|Round off|Fill out|Carry through|End|Go on with|Take up]: "{q}"',
    '[Continue|Complete|Finish|Go on with|Carry on with|Take up|Pick up|Fill out] the [sentence|quotation|quote'
        '|passage|phrase|verse|words|text] "{q}"[.|]',
    '[Please |Now |][continue|complete|finish|go on] from ["{q}"|the words "{q}"|here: "{q}"|this point: "{q}"|where'
        ' it says "{q}"].',
    '[What|What text] [comes|follows|stands|is said|is written|appears] [after|right after|directly after'
        '|immediately after|behind|next after] "{q}"?',
    'Which words [come|follow|appear|are written|are found|can be read] [after|right after|directly after|behind]'
        ' ["{q}"|the words "{q}"|the beginning "{q}"]?',
    '[What are|Give me|Tell me|Show me|Write|Write down|Type|Recall|State|Supply|Provide] the [next words|following'
        ' words|words that follow|words that come next|remaining words|missing words|missing rest|ending] [after|of'
        '|to|for] "{q}"[.|?|]',
    '[What is|Give|Give me|Tell me|Show|I want|I need|Write|Supply|Fetch|Find|Look up|Quote|Cite] the [rest'
        '|remainder|end|ending|second half|second part|continuation|conclusion|other half|remaining part] of ["{q}"'
        '|the sentence "{q}"|the sentence that starts "{q}"|the line "{q}"|the line beginning "{q}"|the quotation'
        ' "{q}"][.|?|]',
    'The [text|book|page|story|author|line|sentence|passage] [says|reads|has|runs|goes|begins|starts] "{q}" [and'
        ' then what|- and then|and goes on how|and then|, what next]?',
    '"{q}" [and then|and so on, how|, and what next|what comes then|how does that end|how does the rest go|what is'
        ' the rest|please go on|please complete|continue this|finish this|then what]?',
    '"{q}" - [complete it|finish it|continue|go on|the rest, please|what follows|what is next|how does it end|carry'
        ' on]',
    '[I remember|I recall|I only know|I know|I have|We have|There is] "{q}" [but not the rest|but not how it goes on'
        '|and need the rest|; what comes after that|; how does it continue|; finish it for me].',
    '[Someone|The author|A character|The book|Somebody] [says|writes|wrote|said] "{q}" [...|and then something more'
        '|and goes on]. [What|How does it go on|What follows|What is the rest|What comes next]?',
    '[Where it says|After the words|Starting with|Beginning with|Right after|Following] "{q}", [what is said next'
        '|what comes|what follows|what do I read|how does the text go on|what are the next words]?',
    'A [sentence|line|passage] [begins|starts|opens] [with|with the words|thus:] "{q}". [How does it end?|Finish it.'
        '|What is the rest?|Complete it.|What comes after that?]',
    '[rest|next words|continuation|what follows|ending] of "{q}"',
    '"{q} ___" [What goes in the gap?|Fill the gap.|Fill in the blank.|Complete.]',
    "[Continue|Complete|Finish|Go on]: [“{q}”|'{q}'|{q} ...|«{q}»]",
    "[How does|What follows|What comes after|What ends] [“{q}”|'{q}'|«{q}»]?",
    "[What comes after|What follows|What is the rest of|What is next after|What stands after] [“{q}”|'{q}'|«{q}»]?",
    '[Can you|Could you|Would you|Will you] [complete|finish|continue|go on with|give the rest of|tell me the rest'
        ' of|say what follows|tell me what comes after] "{q}"?',
    '[I would like to|I want to|Let me|I wish to|Help me] [know|hear|read|see] [how "{q}" ends|how "{q}" goes on'
        '|what comes after "{q}"|the rest of "{q}"|what follows "{q}"].',
    '[Read|Quote|Read aloud|Write|Cite|Copy] [on|further] [from|after|behind] "{q}".',
    'If the [sentence|line|text] starts "{q}", [how does it end|what is its rest|what follows|how must it go on]?',
    'Half of a [sentence|line] is "{q}". [The other half?|What is the other half?|Give the other half.]',
    "[How|In what way|In what words|With what words|By what words|Using which words] [does|do|did|will|would|must"
        "|should] <Q> <go>?",
    "[How|In what way|In what words|With what words|By what words] [is|was|are|were] <Q> <gone>?",
    "<Q> [is|was|gets|has to be] <gone> [how|in what way|by which words|by what|with what]?",
    "<Q> [goes on|continues|runs on|carries on|ends|is completed|is followed by] [how|with what|by what|...|with"
        " which words]?",
    "[What|Which words|What words|Which text|What text] <comes> <after> <Q>?",
    "[After|Behind|Following|Right after|Just after|Directly behind|From] <Q>, [what comes|what follows|what is said"
        "|what comes next|which words stand|how does it go on|what do we read|what is written|what then|what else|go"
        " on]?",
    "[Please |Now |Kindly |Just |So |]<do> [with|from|after|at|] <Q>[.|.|!|, please.|]",
    "[Please |Now |Just |]<do>: <Q>[|.| ...]",
    "<Q>[. |: | - |, |; |? |... ]<do>[ it| this| that| from there|][.|, please.|!|]",
    "[You are|I am|We are] [given|shown|reading|looking at|at] <Q>. [Now |Please |]<do>[ it| from there|].",
    "[What|Which words|How much|What else] [is|are] [left|missing|still to come|to come|there] [after|of|behind"
        "|following] <Q>?",
    "[Someone|The author|A character|She|He|They|The <person>] [begins|starts|opens|says|writes|stops] [with|at"
        "|after] <Q>. [What next?|What comes next?|And then?|Then what?|How does it go on?|<Do>.|What follows?]",
    *ASK, *WONDER,
    go=("go on", "continue", "run on", "carry on", "proceed", "end", "finish", "close", "go further", "keep going",
        "go", "move on", "turn out", "conclude", "resume", "go on from there", "develop", "read on"),
    gone=("continued", "completed", "finished", "followed", "carried on", "ended", "concluded", "taken further",
        "resumed", "carried through", "brought to an end", "rounded off", "extended", "filled out", "worded further"),
    comes=("comes", "follows", "come", "follow", "is written", "stands", "stand", "is said", "appears", "is found",
        "are found", "can be read", "is printed", "goes", "is next", "are next", "occurs", "continues"),
    after=("after", "after", "right after", "directly after", "behind", "next after", "immediately after",
        "just after", "following", "once you have read", "at the end of", "later than", "subsequent to", "next to"),
    do=("continue", "complete", "finish", "go on", "proceed", "read on", "extend", "resume", "take up", "fill out",
        "round off", "end", "quote on", "keep going", "go further", "recite on", "write on", "conclude"),
    Do=("Continue", "Complete it", "Finish it", "Carry on", "Go on", "Proceed", "Read on", "Keep going", "Quote on"),
    Q=_Q,
    N=("the rest of <Q>", "the [continuation|end|ending|remainder|completion|conclusion|second half|second part"
        "|missing part|other half|last part|sequel] of <Q>", "the [words|text|part|piece|bit] [after|following|that"
        " follows|behind|that comes after|right after|next after|succeeding] <Q>",
        "the [next|following|subsequent|remaining|missing|last] words [of|after|to|for] <Q>",
        "what [follows|comes after|comes next after|stands after|is said after|goes after] <Q>",
        'the rest of the [sentence|line|passage|quotation|phrase] [that begins|beginning|starting|that starts|which'
        ' opens] "{q}"', "the full [sentence|line] after <Q>"),
    C=("how <Q> [goes on|continues|runs on|carries on|proceeds|ends|is continued|finishes|is completed]",
        "what [comes|follows|is said|stands|is written|comes next|goes] [after|right after|behind] <Q>",
        "[which|what] words [come|follow|stand|are next|are written] [after|behind] <Q>", "what the rest of <Q> is",
        'how the [sentence|line|passage] that [begins|starts] "{q}" [ends|goes on|continues]'), **LISTS,
)  # fmt: skip

NEXT_LINE = Phrasing(
    '[What|Which] line [comes|follows|stands|is|is printed|is found] [after|right after|directly after|next after'
        '|below|under] "{q}"?',
    '[What|Which] is the [next|following|subsequent] line after "{q}"?',
    '[Give|Give me|Tell me|Show|Quote|Write|Read|Find|Cite] the [line after|line below|line under|next line after'
        '|line that follows|line that comes after|line following] "{q}".',
    '[After|Below|Under|Following|Right after] the line "{q}", [what is the next line|what line comes|which line'
        ' follows|what does the next line say|give the next line]?',
    '"{q}" - [next line|and the next line|the line after that|what is the following line]?',
    'The [line|verse] "{q}" [comes|stands] before which [line|verse]?',
    '[What does the|What does the] [next line|line after|following line] [say after|read after|go, after] "{q}"?',
    'next line after "{q}"', 'line following "{q}"',
    '"{q}" is one line. [What is the next?|Which comes next?|Give the next one.|And the one after it?]',
    "[Which line comes after|Next line after|What line follows] [“{q}”|'{q}']?",
    "[What|Which] [line|verse] [is|stands|comes|is printed|is found|is placed|sits|appears] [below|under|after"
        "|behind|just after|directly under|beneath|following] <Q>?",
    "[Below|Under|After|Beneath|Behind] <Q>[,| there] [stands|comes|is] [what|which] [line|verse|next line]?",
    *ASK[: 8], *WONDER,
    N=("the [line|verse] [after|below|under|beneath|following|that follows|that comes after|behind] <Q>",
        "the [next|following|subsequent] [line|verse] [after|to|behind] <Q>",
        "the line that stands [below|under|after] <Q>"),
    C=("[which|what] line [comes|stands|follows|is] [after|below|under|behind] <Q>", "what the line after <Q> says",
        "how the line after <Q> goes"), Q=_L, **LISTS,
)  # fmt: skip

SPEAKER = Phrasing(
    'Who [says|said|speaks|spoke|cries|tells us|exclaims|declares|remarks|asks|answers|shouts|whispers|pronounces'
        '|delivers|recites|states|mentions|announces] "{q}"?',
    'Who [says|speaks|spoke|said|delivers|has|gets|is given] the [words|line|lines|sentence|phrase|verse|passage]'
        ' "{q}"?',
    '[Which|What] [character|person|man or woman|figure|role] [says|speaks|said|has the words|delivers|speaks the'
        ' line|says the line|is it that speaks] "{q}"?',
    '[Whose|Whose exactly] [line|words|sentence|speech|lines|remark|saying] is "{q}"?',
    'Whose [words|lines] are [these: "{q}"|"{q}"|the following: "{q}"]?',
    '[Name|Identify|Give|State|Tell me|Give me|I need|Find|Look up|Determine|Show] the [speaker|character|person'
        '|name of the speaker|one] [of|who says|who speaks|who said|behind the words|behind] "{q}".',
    '[By whom|By which character|By which person] [is "{q}" said|is "{q}" spoken|are the words "{q}" said|was "{q}"'
        ' said|is the line "{q}" spoken]?',
    '"{q}" - [who says that|who says it|who is speaking|whose words|who said so|who is it|speaker|by whom|who speaks'
        ' here|which character]?',
    '"{q}": [who says that|who is the speaker|whose line is it|who speaks|name the speaker|which character says so'
        '|by whom is it said]?',
    'In whose [speech|lines|part|role] [is|do I find|do we read|does one find|occurs|stands] "{q}"?',
    '[Someone|Somebody|A character|One of the characters] [says|said] "{q}". [Who|Who is it|Who was it|Who is that'
        '|Which one|Name the speaker]?',
    '[I heard|I read|I remember|There is the line|The play has the line|We read] "{q}". [Who says it?|Who says that?'
        '|Whose line is that?|Who was speaking?|Who is the speaker?]',
    '[Tell me|Say|Do you know|Can you tell me|Could you say|I want to know|Let me know|I would like to know|Please'
        ' state|Explain] who [says|said|speaks|spoke|is speaking in] "{q}"[.|?|]', 'speaker of "{q}"', 'who: "{q}"',
    "who says {q}", 'speaker? "{q}"',
    "[Who says|Who said|Who speaks|Speaker of|Whose words are|Who is it that cries] [“{q}”|'{q}'|«{q}»]?",
    'The [line|words|verse|sentence] "{q}" is [spoken|said] by [whom|which character|whom in the play|which person]?',
    'The [line|sentence|verse] "{q}" - [who speaks it|who has it|who says it|whose is it]?',
    '[When|Where] we [read|hear] "{q}", who is [speaking|talking|the speaker]?',
    '[Under|Behind|After] which name [do we find|does one read] the [line|speech with] "{q}"?',
    'Of all the [characters|people|persons] [here|in the play|in it], who [says|speaks the line|said|has the line]'
        ' "{q}"?',
    '[Which name|What name] stands [over|before|above] the [speech|line|lines|words] "{q}"?',
    'Attribute [this|this line|the quotation]: "{q}"',
    'Who is [speaking|talking|meant to say|supposed to say|heard saying|made to say] "{q}"?',
    "[Who|Who|Who|And who|So who|Who exactly|Who, then,|Which character|Which person|What character|Which of them"
        "|Which figure|Which role|Which man or woman|Who in the play|Who of them] <says> <Q>?",
    "[Whose|Whose|In whose|From whose|Out of whose|On whose|By whose] [line|words|speech|mouth|lips|part|voice"
        "|tongue|saying|remark|role] [is|are|is|do we have|do I hear|comes|come|was|were|do we find|does one hear"
        "|stands] <Q>?",
    "[To|With|By|From] [whom|which character|which person|which speaker|what character] [is|are|was|were|does|do"
        "|did] <Q> [given|belong|said|spoken|come|go|assigned|heard|put|uttered|due|owed]?",
    "<Q> [is|was|are|were] [said|spoken|uttered|cried|shouted|whispered|given|delivered|pronounced] by [whom|which"
        " character|which person|whom in the play|...]?",
    "<Q>[. |: | - |, |; |? |... ][who says it|who says this|who said that|who speaks|whose line|whose words are they"
        "|by whom|who is it|which character|name the speaker|speaker|who is speaking|who utters it|whose is that][?"
        "|?|.|]",
    "[Someone|A character|Somebody|One of them|A voice|A man or woman] <says> <Q>. [Who is it?|Who?|Who is that?"
        "|Name the speaker.|Which character?|Who was it?|What is the name?|Who speaks?]",
    "[I hear|I read|We hear|There is|You find|I remember|Here is] <Q>. [Who says it?|Who says that?|Whose line is"
        " that?|Who is speaking?|Who speaks so?|By whom?|From whom?|Who is the speaker?|Tell me who says it.]",
    "[Find|Determine|Work out|Look up|Check|Tell me|Show|See|Discover] [who|which character|which person] [it was"
        " that|it is who|is the one that|] <says> <Q>.", *ASK, *WONDER,
    says=("says", "says", "says", "said", "speaks", "spoke", "has", "has the line", "delivers", "utters", "cries",
        "pronounces", "exclaims", "declares", "tells us", "recites", "shouts", "calls out", "is heard to say",
        "is given", "gets to say", "comes out with", "remarks", "states", "answers", "asks", "would say",
        "speaks the words"),
    N=("the speaker of <Q>", "the speaker of <Q>",
        "the [one|person|character|man or woman|figure] [who|that] <says> <Q>",
        "the [character|person|name|figure] [behind|of|with|for|over|above] <Q>", "the name of the speaker of <Q>",
        "the [owner|voice|source|author in the play] of <Q>", "the name [over|above|before] <Q>",
        "the [character|person] to whom <Q> [belongs|is given]"),
    C=("who <says> <Q>", "who <says> <Q>", "which [character|person] <says> <Q>",
        "whose [line|words|speech] <Q> [is|are]", "by whom <Q> is [said|spoken|uttered]", "who the speaker of <Q> is",
        "who is speaking in <Q>", "to whom <Q> [belongs|is given]",
        "in whose [speech|mouth|part] <Q> [stands|is|occurs]"), Q=_L, **LISTS,
)  # fmt: skip

CHAPTER = Phrasing(
    '[In|Under|Within] [which|what] [chapter|section|part|heading|division] [is|do I find|do we find|stands|occurs'
        '|appears|can one read|comes] "{q}"?',
    '[Which|What] [chapter|section|part] [has|contains|holds|includes|features|is home to|gives] [the words |the'
        ' sentence |the passage |]"{q}"?',
    '[Name|Give|State|Tell me|Find|Look up|Identify|I need|Show] the [chapter|heading|section|title of the chapter'
        '|name of the chapter] [with|of|that has|where we read|containing|in which stands] "{q}".',
    'Where [in the book |]is "{q}"[, in which chapter|; which chapter|]?',
    '"{q}" - [which chapter|what chapter|in what part|under which heading]?',
    'The [words|sentence|passage] "{q}" [stands|is|occurs] [in what chapter|under what heading|in which part]?',
    '[I want|I would like] to [reread|find|look up] "{q}". [In which chapter is it?|Which chapter is that?|What'
        ' chapter do I need?]', 'chapter of "{q}"', 'chapter with "{q}"',
    "[Which|What] chapter has [“{q}”|'{q}']?",
    'What is the [heading|title|name] of the chapter [with|that has|in which I read] "{q}"?',
    '[Someone|The author] writes "{q}". [In which chapter?|What is the chapter called?|Which chapter is it in?]',
    "[In|Under|Within|To|Inside|Into] [which|what] [chapter|heading|section|part] [does|do|did] <Q> [stand|fall|come"
        "|appear|lie|occur|go|turn up|sit]?",
    "[Which|What] chapter [should I open|do I open|must I read|would I turn to|do I need|do I look in] [for|to find"
        "|to see] <Q>?",
    "<Q> [is|stands|appears|occurs|can be found|is printed] [in|under|within] [which|what] [chapter|heading|section]?",
    "[Which|What] [chapter|heading|section] [has|contains|holds|covers|includes|gives|is above|stands over] <Q>?",
    *ASK, *WONDER,
    N=("the [chapter|heading|section] [of|with|for|over|above|containing|that has|that contains|that holds] <Q>",
        "the [name|title|heading] of the chapter [with|that has|containing|of|around] <Q>",
        "the chapter in which <Q> [stands|is|occurs|appears]"),
    C=("in [which|what] [chapter|section] <Q> [is|stands|occurs|appears]", "which chapter [has|contains|holds] <Q>",
        "under which heading <Q> [is|stands]", "what the chapter with <Q> is called"), Q=_Q, **LISTS,
)  # fmt: skip
