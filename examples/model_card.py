"""The conversation of microsoft/DialoGPT's model card: five lines, greedy.   python model_card.py [MODEL]"""

import sys

from dialocpp import ChatSession

chat = ChatSession.from_pretrained(*sys.argv[1:2])
for line in [
    "Does money buy happiness?",
    "What is the best way to buy happiness ?",
    "This is so difficult !",
    "Are you sure ?",
    "Then I will try .",
]:
    print(">> User:", line)
    print("DialoGPT:", chat.reply(line, do_sample=False))
