"""Training wordings of questions about quoted words: the rest, the next line, the speaker, the chapter. Tables only."""

from __future__ import annotations

from octavo.data.tasks.phrasing import Phrasing

QUOTE = Phrasing(
    '[How|In what way|In which way] does ["{q}"|the sentence "{q}"|the passage "{q}"|the text "{q}"] [go on|'
    "continue|run on|end|finish|close]?",
    '[How|In what manner] do the words "{q}" [go on|continue|run on|end]?',
    '[Continue|Complete|Finish|Extend|Resume|Round off|Fill out|Carry through|End|Go on with|Take up]: "{q}"',
    "[Continue|Complete|Finish|Go on with|Carry on with|Take up|Pick up|Fill out] the [sentence|quotation|"
    'quote|passage|phrase|verse|words|text] "{q}"[.|]',
    '[Please |Now |][continue|complete|finish|go on] from ["{q}"|the words "{q}"|here: "{q}"|this point: '
    '"{q}"|where it says "{q}"].',
    "[What|What text] [comes|follows|stands|is said|is written|appears] [after|right after|directly after|"
    'immediately after|behind|next after] "{q}"?',
    "Which words [come|follow|appear|are written|are found|can be read] [after|right after|directly after|"
    'behind] ["{q}"|the words "{q}"|the beginning "{q}"]?',
    "[What are|Give me|Tell me|Show me|Write|Write down|Type|Recall|State|Supply|Provide] the [next words|"
    "following words|words that follow|words that come next|remaining words|missing words|missing rest|"
    'ending] [after|of|to|for] "{q}"[.|?|]',
    "[What is|Give|Give me|Tell me|Show|I want|I need|Write|Supply|Fetch|Find|Look up|Quote|Cite] the [rest|"
    "remainder|end|ending|second half|second part|continuation|conclusion|other half|remaining part] of "
    '["{q}"|the sentence "{q}"|the sentence that starts "{q}"|the line "{q}"|the line beginning "{q}"|the '
    'quotation "{q}"][.|?|]',
    'The [text|book|page|story|author|line|sentence|passage] [says|reads|has|runs|goes|begins|starts] "{q}" '
    "[and then what|- and then|and goes on how|and then|, what next]?",
    '"{q}" [and then|and so on, how|, and what next|what comes then|how does that end|how does the rest go|'
    "what is the rest|please go on|please complete|continue this|finish this|then what]?",
    '"{q}" - [complete it|finish it|continue|go on|the rest, please|what follows|what is next|how does it '
    "end|carry on]",
    '[I remember|I recall|I only know|I know|I have|We have|There is] "{q}" [but not the rest|but not how it '
    "goes on|and need the rest|; what comes after that|; how does it continue|; finish it for me].",
    '[Someone|The author|A character|The book|Somebody] [says|writes|wrote|said] "{q}" [...|and then '
    "something more|and goes on]. [What|How does it go on|What follows|What is the rest|What comes next]?",
    '[Where it says|After the words|Starting with|Beginning with|Right after|Following] "{q}", [what is said '
    "next|what comes|what follows|what do I read|how does the text go on|what are the next words]?",
    'A [sentence|line|passage] [begins|starts|opens] [with|with the words|thus:] "{q}". [How does it end?|'
    "Finish it.|What is the rest?|Complete it.|What comes after that?]",
    '[rest|next words|continuation|what follows|ending] of "{q}"',
    '"{q} ___" [What goes in the gap?|Fill the gap.|Fill in the blank.|Complete.]',
    "[Continue|Complete|Finish|Go on]: [“{q}”|'{q}'|{q} ...|«{q}»]",
    "[How does|What follows|What comes after|What ends] [“{q}”|'{q}'|«{q}»]?",
    "[What comes after|What follows|What is the rest of|What is next after|What stands after] [“{q}”|'{q}'|"
    "«{q}»]?",
    "[Can you|Could you|Would you|Will you] [complete|finish|continue|go on with|give the rest of|tell me "
    'the rest of|say what follows|tell me what comes after] "{q}"?',
    '[I would like to|I want to|Let me|I wish to|Help me] [know|hear|read|see] [how "{q}" ends|how "{q}" '
    'goes on|what comes after "{q}"|the rest of "{q}"|what follows "{q}"].',
    '[Read|Quote|Read aloud|Write|Cite|Copy] [on|further] [from|after|behind] "{q}".',
    'If the [sentence|line|text] starts "{q}", [how does it end|what is its rest|what follows|how must it go '
    "on]?",
    'Half of a [sentence|line] is "{q}". [The other half?|What is the other half?|Give the other half.]',
)  # fmt: skip

NEXT_LINE = Phrasing(
    "[What|Which] line [comes|follows|stands|is|is printed|is found] [after|right after|directly after|next "
    'after|below|under] "{q}"?',
    '[What|Which] is the [next|following|subsequent] line after "{q}"?',
    "[Give|Give me|Tell me|Show|Quote|Write|Read|Find|Cite] the [line after|line below|line under|next line "
    'after|line that follows|line that comes after|line following] "{q}".',
    '[After|Below|Under|Following|Right after] the line "{q}", [what is the next line|what line comes|which '
    "line follows|what does the next line say|give the next line]?",
    '"{q}" - [next line|and the next line|the line after that|what is the following line]?',
    'The [line|verse] "{q}" [comes|stands] before which [line|verse]?',
    "[What does the|What does the] [next line|line after|following line] [say after|read after|go, after] "
    '"{q}"?',
    'next line after "{q}"',
    'line following "{q}"',
    '"{q}" is one line. [What is the next?|Which comes next?|Give the next one.|And the one after it?]',
    "[Which line comes after|Next line after|What line follows] [“{q}”|'{q}']?",
)  # fmt: skip

SPEAKER = Phrasing(
    "Who [says|said|speaks|spoke|cries|tells us|exclaims|declares|remarks|asks|answers|shouts|whispers|"
    'pronounces|delivers|recites|states|mentions|announces] "{q}"?',
    "Who [says|speaks|spoke|said|delivers|has|gets|is given] the [words|line|lines|sentence|phrase|verse|"
    'passage] "{q}"?',
    "[Which|What] [character|person|man or woman|figure|role] [says|speaks|said|has the words|delivers|"
    'speaks the line|says the line|is it that speaks] "{q}"?',
    '[Whose|Whose exactly] [line|words|sentence|speech|lines|remark|saying] is "{q}"?',
    'Whose [words|lines] are [these: "{q}"|"{q}"|the following: "{q}"]?',
    "[Name|Identify|Give|State|Tell me|Give me|I need|Find|Look up|Determine|Show] the [speaker|character|"
    'person|name of the speaker|one] [of|who says|who speaks|who said|behind the words|behind] "{q}".',
    '[By whom|By which character|By which person] [is "{q}" said|is "{q}" spoken|are the words "{q}" said|'
    'was "{q}" said|is the line "{q}" spoken]?',
    '"{q}" - [who says that|who says it|who is speaking|whose words|who said so|who is it|speaker|by whom|'
    "who speaks here|which character]?",
    '"{q}": [who says that|who is the speaker|whose line is it|who speaks|name the speaker|which character '
    "says so|by whom is it said]?",
    'In whose [speech|lines|part|role] [is|do I find|do we read|does one find|occurs|stands] "{q}"?',
    '[Someone|Somebody|A character|One of the characters] [says|said] "{q}". [Who|Who is it|Who was it|Who '
    "is that|Which one|Name the speaker]?",
    '[I heard|I read|I remember|There is the line|The play has the line|We read] "{q}". [Who says it?|Who '
    "says that?|Whose line is that?|Who was speaking?|Who is the speaker?]",
    "[Tell me|Say|Do you know|Can you tell me|Could you say|I want to know|Let me know|I would like to know|"
    'Please state|Explain] who [says|said|speaks|spoke|is speaking in] "{q}"[.|?|]',
    'speaker of "{q}"',
    'who: "{q}"',
    "who says {q}",
    'speaker? "{q}"',
    "[Who says|Who said|Who speaks|Speaker of|Whose words are|Who is it that cries] [“{q}”|'{q}'|«{q}»]?",
    'The [line|words|verse|sentence] "{q}" is [spoken|said] by [whom|which character|whom in the play|which '
    "person]?",
    'The [line|sentence|verse] "{q}" - [who speaks it|who has it|who says it|whose is it]?',
    '[When|Where] we [read|hear] "{q}", who is [speaking|talking|the speaker]?',
    '[Under|Behind|After] which name [do we find|does one read] the [line|speech with] "{q}"?',
    "Of all the [characters|people|persons] [here|in the play|in it], who [says|speaks the line|said|has the "
    'line] "{q}"?',
    '[Which name|What name] stands [over|before|above] the [speech|line|lines|words] "{q}"?',
    'Attribute [this|this line|the quotation]: "{q}"',
    'Who is [speaking|talking|meant to say|supposed to say|heard saying|made to say] "{q}"?',
)  # fmt: skip

CHAPTER = Phrasing(
    "[In|Under|Within] [which|what] [chapter|section|part|heading|division] [is|do I find|do we find|stands|"
    'occurs|appears|can one read|comes] "{q}"?',
    "[Which|What] [chapter|section|part] [has|contains|holds|includes|features|is home to|gives] [the words |"
    'the sentence |the passage |]"{q}"?',
    "[Name|Give|State|Tell me|Find|Look up|Identify|I need|Show] the [chapter|heading|section|title of the "
    'chapter|name of the chapter] [with|of|that has|where we read|containing|in which stands] "{q}".',
    'Where [in the book |]is "{q}"[, in which chapter|; which chapter|]?',
    '"{q}" - [which chapter|what chapter|in what part|under which heading]?',
    'The [words|sentence|passage] "{q}" [stands|is|occurs] [in what chapter|under what heading|in which '
    "part]?",
    '[I want|I would like] to [reread|find|look up] "{q}". [In which chapter is it?|Which chapter is that?|'
    "What chapter do I need?]",
    'chapter of "{q}"',
    'chapter with "{q}"',
    "[Which|What] chapter has [“{q}”|'{q}']?",
    'What is the [heading|title|name] of the chapter [with|that has|in which I read] "{q}"?',
    '[Someone|The author] writes "{q}". [In which chapter?|What is the chapter called?|Which chapter is it '
    "in?]",
)  # fmt: skip
