"""Save a conversation, go on with it later, and try two ways from one point.   python what_if.py [MODEL]"""

import sys
import tempfile
from pathlib import Path

from dialocpp import ChatSession, Model

model = Model.from_pretrained(*sys.argv[1:2])
chat = ChatSession(model, seed=7)
chat.reply("Hi, I am thinking of getting a dog.")

with tempfile.TemporaryDirectory() as folder:
    chat.save(Path(folder) / "chat.json")
    chat = ChatSession.load(Path(folder) / "chat.json", model)

print("The story so far:", *(turn["content"] for turn in chat.history), sep="\n  ")
print(chat.reply("I have a garden."))
for question in ("Should it be a small one?", "Or a cat?"):
    twin = chat.fork()  # shares the cache: what was said is not read again
    reply = twin.reply(question)
    print(
        f"{question} {reply} ({reply.usage.cached_tokens} of {reply.usage.prompt_tokens} tokens were cached)"
    )

print("Another beginning:", chat.regenerate())
