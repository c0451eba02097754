"""Two conversations at once on one model, each piece printed as it comes.   python streaming.py [MODEL]"""

import asyncio
import sys

from dialocpp import ChatSession, Model


async def talk(name: str, model: Model, lines: list[str]) -> None:
    chat = ChatSession(model, max_new_tokens=24)
    for line in lines:
        async for piece in chat.astream(line):
            print(f"{name}: {piece!r}")


async def main() -> None:
    model = Model.from_pretrained(*sys.argv[1:2])
    await asyncio.gather(
        talk("Ann", model, ["Hello, how are you?", "Do you like music?"]),
        talk("Bob", model, ["What do you do for fun?", "That sounds nice."]),
    )


asyncio.run(main())
