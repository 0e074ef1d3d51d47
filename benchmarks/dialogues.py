# ruff: noqa: E501 - tables of sentences
"""Customer-service dialogues to measure with: three domains, each with one system prompt and one set of tools.

Made of sentences in the style of public collections of such dialogues: a customer, an agent that is a model, and answers
of tools in JSON. Each has 20 turns or more; what differs is what differs in life: who it is, what they want, in which
words, and what the tools answer. The agent has a few ways to say each thing, as models do.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from typing import Any, Final


def _joined(begins: str, ends: str) -> tuple[str, ...]:
    return tuple(begin + end for begin in begins.split() for end in ends.split())


# As many as it takes for customers to share a name, a street or a city about as often as they do in life: of 100 others,
# one in four has the same first name, one in ten the same last name. Made up, so that no list of people is needed.
FIRST: Final = _joined(
    "Al Bor Cat Dam Ed Far Gor Han Is Jul Kat Lor Mar Nor Ol Pri Ros Tar Vik Yar",
    "ana bek dina eo ina ira osz ric ton una vin wen ya zara elle",
)
LAST: Final = _joined(
    "Abe Ber Cas Dvo Eri Fon Gri Had Iva Jen Kow Lin Mor Nak Oka Pet Qui Ros Sch Tan Ued Var Whi Xan Yil Zim Ach Bra Coe Dim",
    "bach castel dorf eaux finch grave hart ich jarvi kari lund mann nen ovic pati quist rand sson tsuka urri vale wick yan zak beri cote dottir ekka fors gard",
)
STREETS: Final = _joined(
    "Alder Birch Cedar Dog Elm Fox Grove Hazel Ivy Juniper Laurel Maple Oak Pine Rowan",
    "wood field brook hill ridge mead",
)
CITIES: Final = _joined(
    "Al Bo Cleve Day Eu Fres Har Jack Knox Lin Mob Nor", "bany dale field ford land leigh ton ville wick"
)

OPENINGS: Final = (
    "Hi, {want}.", "Hello. {want}. {why}.", "Good morning, {why}, so {want}.", "hey {want} please", "{why}. {want}.",
    "Hello there! {want}, if that is possible.", "Hi! I hope you can help. {why} and {want}.",
)  # fmt: skip
WHO: Final = (
    "Of course. May I have your {key} so that I can find your {thing}?",
    "I would be glad to look into that. What is the {key} for your {thing}?",
    "Sure, I can help with your {thing}. Please tell me your {key} first.",
    "Let me check that for you. Could you give me the {key} on file?",
    "Happy to help. To get started I need your {key}.",
)
IDENTITY: Final = (
    "It's {id}.", "My {key} is {id}, under the name {name}.", "{id}", "Sure: {id}. The name is {name}.",
    "I think it is {id}, and my email is {email}.", "That would be {id}, {name}.",
)  # fmt: skip
FOUND: Final = (
    "Thank you, {first}. I can see {detail}. {ask}",
    "Thanks {first}, I have found it: {detail}. {ask}",
    "I see here that you have {detail}. {ask}",
    "Great, {first}! The record shows {detail}. {ask}",
)
CHAT: Final = (
    ("How long does that take?", "It usually shows up within {days} days, {first}."),
    ("What would it cost me?", "The total comes to ${price}, taxes included."),
    (
        "Can you split it between two cards?",
        "Only one method per {thing}, I am afraid; the {card} ending in {four} works.",
    ),
    ("Is there anything cheaper?", "The cheapest I found is ${price2}, leaving on {date}."),
    ("I already wrote to you about this last week.", "I can see your note from {date}, and I am sorry about the wait."),
    ("My address changed, too, it is {address} now.", "I have put down {address} as the new one."),
    ("wait, is that the one from {date}?", "Yes, that is the one from {date}, number {id2}."),
    ("Could you send me a confirmation?", "I have just sent it to {email}."),
    ("Will my {relative} be told about it?", "No, only you will hear from us, {first}."),
    ("And what about the {extra}?", "The {extra} stays as it is; it is paid for until {date2}."),
    (
        "I'm not happy with that, honestly.",
        "I understand, {first}. The most that I can offer is a credit of ${credit}.",
    ),
    ("Can I do it myself next time?", "You can, in the app under {menu}, up to {hours} hours before."),
    ("That's fine with me.", "Shall I go ahead and {action}, then?"),
    ("Do I keep my points?", "You keep all {points} of them."),
    ("My {relative} paid for it with a {card}.", "In that case it goes back to the {card} ending in {four}."),
)
DONE: Final = (
    "All set: I have made sure to {action}. The reference is {ref}.",
    "It is done, {first}. Your reference number is {ref}.",
    "I was able to {action}; please keep {ref} for your records.",
    "Good news, that went through. Write down {ref} in case you need it.",
)
THANKS: Final = (
    "Thanks, bye!",
    "perfect, thank you",
    "Great, that is all from me.",
    "ok cool",
    "Wonderful. Have a good one!",
)
FAREWELL: Final = (
    "You're welcome, {first}. Take care!", "Glad I could help. Enjoy your day!", "Any time, {first}.", "Thank you for calling.",
)  # fmt: skip


# Nobody says the same thing twice in the same words, and a model does seldom: without these whole sentences would repeat.
SAME: Final = tuple(
    tuple(group.split("|"))
    for group in (
        "help|assist you|be of use|lend a hand", "Could you|Would you|Can you|Might you", "please|if you would|kindly",
        "check|look up|pull up|go over", "happy|glad|pleased|very willing", "find|locate|get at|bring up",
        "I need|I would need|I require|I will have to ask for", "tell me|give me|let me have|share", "want|would like|hope",
        "Thank you|Thanks|Many thanks|Thanks a lot", "I see|I can see|It looks like|As far as I can tell", "great|good|fine",
        "is there|would there be|do you have|might there be", "Of course|Certainly|Absolutely|By all means|Sure thing",
        "takes|needs|lasts", "usually|normally|in most cases|as a rule", "I am afraid|unfortunately|sadly|as it stands",
        "happy|pleased|content", "honestly|to be frank|if I may say so|really", "last week|some days ago|the other day",
        "wrote to|messaged|contacted|called", "myself|on my own|by myself|without calling", "next time|in the future|later on",
        "keep|hold on to|still have", "points|miles|rewards", "send me|mail me|forward me|let me have", "works|will do|is fine",
        "confirmation|receipt|summary|note of it", "cost me|come to|be in total|run me", "long|many days|much time",
        "understand|hear you|see your point|get that", "offer|do|give you|propose", "done|finished|settled|taken care of",
        "went through|worked|is in place|was accepted", "just|a moment ago|right now", "reference|confirmation|case",
        "Enjoy your day|Have a nice day|All the best|Have a lovely evening", "could help|was able to help|got that sorted",
        "Take care|Goodbye|Bye for now|So long", "that is all|nothing else|no more questions", "perfect|lovely|brilliant",
        "anything cheaper|a lower price|something less dear|a better deal", "split it|divide it|spread it|share it out",
        "between|across|over", "told|informed|notified", "stays|remains|is left", "record|file|system", "shows|has|lists",
        "Glad|Happy|Pleased|Delighted", "go ahead and|proceed to|now", "Which|What", "move|shift|change", "cancel|call off|drop",
        "wait|delay|trouble", "made sure to|managed to|arranged to", "address|place", "fine with me|all right|okay for me",
        "to get started|first of all|before anything else", "on file|in your account|that you were given", "like|prefer",
    )
)  # fmt: skip
FILLERS: Final = (
    "well", "so", "okay", "right", "oh", "look", "hm", "one moment", "actually", "you know", "by the way", "let me think",
    "to be sure", "if I may", "as I said", "for now", "then", "in that case", "all right", "no worries",
)  # fmt: skip


def _varied(rng: random.Random, text: str) -> str:
    """The same in other words."""
    for group in SAME:
        for word in group:
            found = re.search(rf"(?i)\b{re.escape(word)}\b(?![^{{]*}})", text)
            if found:
                other = rng.choice(group)
                other = other[0].upper() + other[1:] if found[0][0].isupper() else other
                text = text[: found.start()] + other + text[found.end() :]
                break
    sentences = re.split(r"(?<=[.?!]) ", text)
    for number, sentence in enumerate(sentences):
        if rng.random() < 0.5 and sentence[:1] != "{":
            start = sentence if sentence.startswith(("I ", "I'", "{")) else sentence[0].lower() + sentence[1:]
            sentences[number] = f"{rng.choice(FILLERS).capitalize()}, {start}"
        elif rng.random() < 0.4 and sentence[-1:] in ".?":
            sentences[number] = f"{sentence[:-1]}, {rng.choice(FILLERS)}{sentence[-1]}"
    return " ".join(sentences)


@dataclass(frozen=True)
class Domain:
    """What the dialogues of one business have in common, and what differs between them."""

    system: str
    tools: tuple[str, ...]
    thing: str
    key: str
    prefix: str
    wants: tuple[str, ...]
    whys: tuple[str, ...]
    details: tuple[str, ...]
    asks: tuple[str, ...]
    actions: tuple[str, ...]
    extras: tuple[str, ...]


DOMAINS: Final = {
    "airline": Domain(
        "You are an agent of an airline. Help customers to book, change or cancel flights, and follow the policy.\n"
        "Before any change to the booking database, list the details and obtain explicit confirmation.\n"
        "Do not give information or procedures that the user or the tools have not provided.",
        ("get_reservation_details", "update_reservation_flights", "cancel_reservation"),
        "reservation", "booking code", "RX",
        ("I need to move my flight to {city} to another day", "I want to cancel my trip to {city}",
         "I have to add a bag to my flight on {date}", "can you get me on an earlier plane to {city}",
         "I'd like to upgrade my seat to {city}", "I was hoping to bring my dog on the flight to {city}"),
        ("my {relative} broke a leg", "the meeting in {city} was put off", "a storm is coming", "my boss changed the plan",
         "I misread the calendar", "our wedding is on {date} now"),
        ("two seats to {city} on {date} for ${price}", "a round trip from {city2} to {city} with one stop",
         "an economy ticket to {city}, flight {flight}", "flight {flight} at {time}, paid with a {card}"),
        ("Which day would suit you?", "Would the flight at {time} work?", "Shall I look for seats on {date2}?",
         "Do you want to keep the same cabin?"),
        ("move you to flight {flight} on {date2}", "cancel the trip to {city}", "add one bag for ${credit}",
         "book seat {seat} on flight {flight}"),
        ("travel insurance", "second bag", "window seat", "hotel voucher"),
    ),
    "retail": Domain(
        "You are an agent of an online shop. Help customers with their orders, and authenticate them first.\n"
        "An order can only be changed while it is pending; a delivered one can be returned or exchanged once.\n"
        "Deny requests that are against this policy, and transfer to a human if the tools cannot do it.",
        ("get_order_details", "exchange_delivered_order_items", "return_delivered_order_items"),
        "order", "order number", "W",
        ("I'd like to return the {item} I bought", "the {item} came in the wrong colour and I want another",
         "please cancel the {item} from my order", "I want to swap my {item} for a larger one",
         "where is my {item}", "I never got the {item} that I paid for on {date}"),
        ("it does not fit my {relative}", "it broke on {date}", "I found it for less", "it was meant as a present",
         "the box was open", "I ordered it twice by accident"),
        ("a {item} and two more articles, delivered on {date}", "one {item} for ${price}, on its way to {city}",
         "the {item}, paid with a {card}", "an order of {date} that went to {address}"),
        ("Was it damaged when it arrived?", "Which size should it be instead?", "Do you still have the box?",
         "Should the money go back to the {card}?"),
        ("return the {item}", "send you another {item}", "refund ${price}", "cancel the {item}"),
        ("gift wrapping", "second {item}", "warranty", "express delivery"),
    ),
    "telecom": Domain(
        "You are an agent of a mobile carrier. Help customers with their lines, plans, bills and devices.\n"
        "Check the state of the line before you suggest a repair, and make one change at a time.\n"
        "A line that was suspended for an unpaid bill may be resumed only once the bill is paid.",
        ("get_line_details", "resume_line", "send_payment_request"),
        "line", "phone number", "+1 ",
        ("my phone says no service since {date}", "I want a plan with more data", "why is my bill ${price} this month",
         "my data is really slow in {city}", "I need roaming for a trip to {city}", "please unlock the {device}"),
        ("I am travelling with my {relative}", "I changed the sim on {date}", "my {relative} uses it too",
         "I moved to {city}", "the {device} fell into the sink", "I got a strange text"),
        ("a {device} on the {plan} plan, active since {date}", "an open bill of ${price} from {date}",
         "the {plan} plan with {hours} GB, of which none is left", "roaming is off, and the {device} is locked"),
        ("Is the {device} in airplane mode?", "Shall I send you a request for ${price}?", "Could you restart the {device}?",
         "Do you see any bars in {city}?"),
        ("resume the line", "switch roaming on until {date2}", "add {hours} GB for ${credit}", "move you to the {plan} plan"),
        ("old {device}", "second line", "voicemail", "device insurance"),
    ),
}  # fmt: skip


def _facts(rng: random.Random, domain: Domain) -> dict[str, str]:
    first, last = rng.choice(FIRST), rng.choice(LAST)
    day = lambda: f"{rng.choice(('March', 'April', 'May', 'June', 'October'))} {rng.randint(1, 28)}"  # noqa: E731
    code = lambda size: "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=size))  # noqa: E731
    return {
        "first": first, "name": f"{first} {last}", "id": domain.prefix + code(6), "id2": code(7), "ref": code(8),
        "email": f"{first.lower()}.{last.lower()}{rng.randint(10, 99)}@example.com",
        "city": rng.choice(CITIES), "city2": rng.choice(CITIES), "date": day(), "date2": day(),
        "relative": rng.choice(("mother", "son", "wife", "husband", "brother", "aunt", "neighbour")),
        "price": f"{rng.randint(20, 1900)}.{rng.randint(10, 99)}", "price2": str(rng.randint(40, 900)),
        "credit": str(rng.randint(5, 90)), "days": f"{rng.randint(2, 5)} to {rng.randint(6, 12)}",
        "card": rng.choice(("Visa", "Mastercard", "gift card", "debit card")), "four": str(rng.randint(1000, 9999)),
        "address": f"{rng.randint(10, 999)} {rng.choice(STREETS)} Street, {rng.choice(CITIES)}",
        "flight": f"{code(2)}{rng.randint(100, 999)}", "time": f"{rng.randint(5, 22)}:{rng.randint(10, 59)}",
        "seat": f"{rng.randint(3, 40)}{rng.choice('ABCDEF')}", "hours": str(rng.randint(2, 48)),
        "points": f"{rng.randint(1, 90)},{rng.randint(100, 999)}", "menu": rng.choice(("Trips", "My account", "Help")),
        "item": rng.choice(("lamp", "jacket", "blender", "backpack", "keyboard", "kettle", "puzzle", "tent", "mug")),
        "device": rng.choice(("Pixel", "Galaxy", "iPhone", "tablet", "router")),
        "plan": rng.choice(("Basic", "Family", "Premium", "Senior")),
    }  # fmt: skip


def dialogue(domain_name: str, seed: int) -> list[dict[str, Any]]:
    """One customer's conversation as messages in OpenAI's form, without the system prompt."""
    rng = random.Random(f"{domain_name} {seed}")
    domain = DOMAINS[domain_name]
    facts = _facts(rng, domain) | {"thing": domain.thing, "key": domain.key}

    def say(choices: tuple[str, ...] | str) -> str:
        text = _varied(rng, choices if isinstance(choices, str) else rng.choice(choices))
        while "{" in text:
            text = text.format_map(
                facts | {"want": rng.choice(domain.wants), "why": rng.choice(domain.whys), "ask": rng.choice(domain.asks),
                         "detail": rng.choice(domain.details), "extra": rng.choice(domain.extras), "action": action}
            )  # fmt: skip
        return text

    action = rng.choice(domain.actions)
    messages: list[dict[str, Any]] = []

    def turn(role: str, content: str) -> None:
        messages.append({"role": role, "content": content})

    def call(name: str, arguments: dict[str, Any], answer: Any) -> None:
        ident = f"call_{rng.getrandbits(64):016x}"
        function = {"name": name, "arguments": json.dumps(arguments)}
        messages.append(
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": ident, "type": "function", "function": function}],
            }
        )
        messages.append({"role": "tool", "tool_call_id": ident, "name": name, "content": json.dumps(answer)})

    turn("user", say(OPENINGS))
    turn("assistant", say(WHO))
    turn("user", say(IDENTITY))
    record = {
        f"{domain.thing}_id": facts["id"], "status": rng.choice(("pending", "delivered", "active")),
        "customer": {"first_name": facts["first"], "last_name": facts["name"].split()[1], "email": facts["email"]},
        "created_at": f"2024-0{rng.randint(1, 6)}-{rng.randint(10, 28)}T{rng.randint(10, 23)}:{rng.randint(10, 59)}:00",
        "payment_history": [{"payment_id": f"card_{rng.randint(10**6, 10**7)}", "amount": float(facts["price"])}],
        "address": {"address1": facts["address"], "country": "USA", "zip": str(rng.randint(10000, 99999))},
        "total_items": rng.randint(1, 4), "is_refundable": rng.random() < 0.5,
    }  # fmt: skip
    call(domain.tools[0], {f"{domain.thing}_id": facts["id"]}, record)
    turn("assistant", say(FOUND))
    for question, answer in rng.sample(CHAT, 7):
        turn("user", say(question))
        turn("assistant", say(answer))
    call(
        rng.choice(domain.tools[1:]),
        {f"{domain.thing}_id": facts["id"], "reason": say(domain.whys)},
        {"ok": facts["ref"]},
    )
    turn("assistant", say(DONE))
    turn("user", say(THANKS))
    turn("assistant", say(FAREWELL))
    return messages
