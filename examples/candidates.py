"""A persona, several candidates for each reply, and why the others were not given.   python candidates.py [MODEL]"""

import sys

from dialocpp import ChatSession, Model


def variety(context: list[str], reply: str) -> float:
    """A ranker of one's own: different words, of which those of the conversation count less."""
    words = set(reply.lower().split())
    return len(words) - 0.5 * len(words & set(" ".join(context).lower().split()))


model = Model.from_pretrained(*sys.argv[1:2])
chat = ChatSession(
    model, seed=3, num_candidates=4, rankers=variety, persona=["I am a cook."], reply_filter=["politics"]
)
for line in ("Hi, what do you do?", "Do you like it?", "What is your best dish?"):
    reply = chat.reply(line)
    print(f"{line}\n  {reply}")
    for candidate in reply.candidates:
        print(f"    {candidate.total:5.1f}  {candidate.rejected_because or ''}  {candidate.text!r}")
    chat.prepare()  # in idle time: the next message then reads only its own tokens
    print(f"    {reply.usage.fresh_tokens} tokens read, {reply.usage.recomputed_tokens} of them again")
