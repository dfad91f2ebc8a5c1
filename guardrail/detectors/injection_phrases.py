"""Phrases by which a text tries to become the instruction (``injection.*``).

Written from the published attack collections (garak, PIGuard, in-the-wild jailbreaks), English here and
other languages in ``injection_languages``. They are signals with few false alarms, not a defence:
paraphrases and indirect injection are the judge's work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from guardrail.detectors import injection_languages as abroad
from guardrail.detectors.detector import Detector, Triggered, tidy
from guardrail.detectors.folding import fold, folded_spans
from guardrail.detectors.patterns import Patterns

__all__ = ["OVERRIDE", "PERSONA", "PROMPT_LEAK"]

_LONGEST: Final = 256

# In all of these a space stands for any run of white space.
_DROP: Final = (
    r"(?:ignor(?:e|ing)|disregard(?:ing)?|forget|overlook|neglect|override|bypass|discard|dismiss"
    r"|pay no attention to|stop following|(?:do not|don'?t) (?:follow|obey|listen to))"
)
_EARLIER: Final = r"(?:previous|prior|above|preceding|earlier|foregoing|former|initial|original|past)"
_RULES: Final = (
    r"(?:instructions?|directions?|directives?|rules?|guidelines?|guidance|prompts?|commands?"
    r"|orders?|constraints?|restrictions?|programming|training|messages?|conversations?|context"
    r"|tasks?|assignments?|statements?|inputs?|policies)"
)
_WORDS: Final = r"(?:[\w'\-]+,? )"
_OVERRIDE: Final = (
    rf"\b{_DROP} {_WORDS}{{0,4}}{_EARLIER} {_WORDS}{{0,3}}{_RULES}\b",
    rf"\b{_DROP} {_WORDS}{{0,3}}(?:all|any|every|your|these|those|the|my) {_WORDS}{{0,3}}{_RULES} "
    r"(?:(?:that|which) )?(?:(?:you|i|we|it) )?(?:(?:have|had|were|was|got|gave|been) ){0,2}"
    r"(?:given|told|received|above|before|previously|prior|earlier|so far|up to now|until now)\b",
    rf"\b{_DROP} (?:about )?(?:all |any )?(?:of )?your {_WORDS}{{0,2}}"
    r"(?:instructions|directives|guidelines|programming|rules|constraints|restrictions|training)\b",
    rf"\b{_DROP} (?:about )?(?:all|everything|anything|whatever) {_WORDS}{{0,4}}"
    r"(?:above|before|previous(?:ly)?|prior|so far|up to now|until now|told (?:you|before))\b",
    rf"\b{_DROP} (?:about )?(?:all|any|every) (?:(?:of|the|your|those|these|other) ){{0,2}}"
    r"(?:instructions?|directives?|prompts?|programming|assignments)\b",
    r"\b(?:ignore|disregard|forget) (?:(?:all|everything|of|the|that|text) ){0,3}"
    r"(?:above|previous)(?: and\b|\s*[,.;:!]|$)",
    r"\bforget (?:about )?(?:everything|all)(?: (?:that )?(?:you|we|i) "
    r"(?:know|knew|were|was|have|had|learn|said|told|discuss|talk)|[,.;]? (?:and|just|now)\b|[,;!])",
    # What is no instruction, only where an order to answer something else follows.
    rf"\b{_DROP} (?:(?:all|the|these|those) )*(?:above|previous|preceding) "
    r"(?:questions?|problems?|reminders?|warnings?|requests?|text)(?: for now)?,? (?:and |then )"
    r"(?:(?:then|just|simply|directly|only|please|instead) ){0,2}"
    r"(?:add|output|answer|repeat|reply|respond|print|say|write|enter)\b",
    r"\b(?:drop|erase|delete) (?:all )?(?:of )?your (?:\w+ )?(?:instructions|directives"
    r"|guidelines|rules)\b",
)

_FREE: Final = (
    r"(?:restrictions?|limit(?:ation)?s?|filters?|rules?|guidelines?|censorship|boundaries"
    r"|moral(?:s|ity)?|ethics|ethical|constraints?|policies)"
)
_MODEL: Final = r"(?:ai|a\.i\.|chat\s?bot|bot|assistant|(?:language )?model|llm|gpt|chatgpt)"
_PERSONA: Final = (
    # The names of the collections: "do anything now", "strive to avoid norms", and so on.
    r"\b(?:do anything now|(?:act|behave|respond|answer|pretend|speak|reply|roleplay|role-play) "
    r"(?:as|like|to be) (?:an? )?(?-i:DAN|STAN|DUDE|DAN-?GPT|AIM|UCAR|NRAF|MONGO|JAILBREAK)\b)",
    r"\b(?-i:DAN|STAN) (?:can|has|is|mode|will|would|does|should|stands|must|prompt)\b",
    r"\b(?:chat\s?gpt|you are|you're|now|an ai|act(?:ing)?|respond|simulat\w+) "
    rf"{_WORDS}{{0,4}}(?:developer|debug|god|jailbreak|jailbroken|dan|evil|unrestricted)[\s\-]mode\b",
    r"\b(?:developer|jailbreak) mode (?:output|response|enabled|activated|v\d)",
    rf"\b(?:you are|you're|you will be|act as|pretend|imagine) {_WORDS}{{0,12}}"
    rf"(?:without|free (?:of|from)|no|not bound by|unbound by) {_WORDS}{{0,4}}{_FREE}\b",
    r"\b(?:unfiltered|uncensored|unrestricted|amoral|jailbroken|unethical|immoral|unhinged)"
    rf"(?:,? (?:and )?\w+){{0,3}} {_MODEL}\b",
    r"\b(?:(?:broken?|freed?) (?:free )?(?:of|from) (?:\w+ ){0,3}(?:confines of ai|openai)"
    r"|(?:no longer|not|never) (?:bound|restricted|limited|constrained) (?:by|to) "
    rf"{_WORDS}{{0,3}}(?:open\s?ai\b|{_FREE}\b))",
    rf"\b(?:do|does|need) not (?:have to )?(?:abide|adhere|comply|follow) {_WORDS}{{0,5}}"
    r"(?:openai|rules (?:set|imposed) for|(?:ethical|moral) \w+)\b",
    r"\bfree (?:of|from) (?:all|any|your|its|my) (?:\w+ ){0,2}"
    r"(?:restrictions|filters|confines|limitations)\b",
    r"\b(?:ethicality|legality|morality)/\w+|\bdoes(?:n'?t| not) care about (?:\w+ ){0,3}"
    r"(?:ethic|moral|legality|openai)\w*",
    r"\banswer (?:my|your|all|every) (?:\w+ ){0,2}in (?:two|2) (?:\w+ ){0,2}(?:ways|responses)\b",
    r"\bstay in character\b.{0,80}\b(?:dan|token|remind|jailbr)",
)

_TELL: Final = (
    r"(?:reveal|show|print|repeat|output|display|disclose|leak|tell|give|recite|dump|expose|share"
    r"|return|copy|paste|spell|translate|summari[sz]e|write (?:out|down)|spit out"
    r"|what(?:'s| is| are| was| were))"
)
_HIDDEN: Final = (
    r"(?:system|initial|original|hidden|secret|developer|first|internal|initiali[sz]ation"
    r"|pre-?prompt|confidential)"
)
_PROMPT: Final = r"(?:prompts?|instructions?|messages?|directives?|rules|guidelines)"
_PROMPT_LEAK: Final = (
    rf"\b{_TELL} (?:me |us |back )?{_WORDS}{{0,4}}your {_WORDS}{{0,3}}{_HIDDEN} {_WORDS}?"
    rf"{_PROMPT}\b",
    rf"\b{_TELL} (?:me |us |back )?(?:the )?(?:\w+ ){{0,2}}(?:system|hidden|secret|developer) "
    r"(?:prompt|instructions|message)\b"
    r"(?:.{0,40}\b(?:verbatim|word for word|above|exactly|in full|code block))",
    rf"\b{_TELL} (?:me )?(?:your|the) {_WORDS}{{0,2}}(?:prompt|instructions) "
    r"(?:verbatim|word for word|you (?:were|have been|got) (?:given|told)|above)",
    r"\b(?:repeat|print|output|copy|echo|recite|write out) (?:back )?(?:all |everything|exactly )*"
    r"(?:(?:of )?(?:the )?(?:words|text|content|lines|sentences|instructions) )?\s?"
    r"(?:before this|you were told|that came before)\b",
    # "Word by word, then answer" is what tests of obedience ask for; "the output above" is a noun.
    r"\b((?:(?:repeat|recite|write out) (?:back )?(?:all |everything |exactly )*"
    r"|(?:print|output|copy|echo) (?:back )?(?:(?:all|everything|exactly) )+"
    r"|(?:print|output|copy|echo) (?:back )?(?:(?:all|everything|exactly) )*(?:of )?(?:the )?"
    r"(?:words|text|content|lines|sentences|instructions) )"
    r"(?:(?:of )?(?:the )?(?:words|text|content|lines|sentences|instructions) )?above"
    r"(?: word for word| verbatim)?)(?:\s*[^\sw]|$)",
)


def _finder(patterns: tuple[str, ...]) -> Callable[[str], list[tuple[int, int]]]:
    """A finder of these patterns in the folded copy of a text."""
    compiled = Patterns(patterns)

    def find(text: str) -> list[tuple[int, int]]:
        return tidy(((start, end) for _, start, end in folded_spans(compiled, text)), _LONGEST)

    return find


def _detector(name: str, written: tuple[str, ...]) -> Triggered:
    patterns = tuple("(?i)" + fold(pattern).replace(" ", r"\s+") for pattern in written)
    return Triggered(Detector(name, _finder(patterns), _LONGEST), "|".join(patterns), folded=True)


OVERRIDE: Final = _detector("injection.override", (*_OVERRIDE, *abroad.OVERRIDE))
PERSONA: Final = _detector("injection.persona", (*_PERSONA, *abroad.PERSONA))
PROMPT_LEAK: Final = _detector("injection.prompt_leak", (*_PROMPT_LEAK, *abroad.PROMPT_LEAK))
