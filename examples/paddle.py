"""PaddleNLP's DialoGPT demo: five messages from the keyboard, top_k=5.   python paddle.py [MODEL]"""

import sys

from dialocpp import ChatSession, GenerationConfig, Model

model = Model.from_pretrained(*sys.argv[1:2])
chat = ChatSession(model, GenerationConfig(do_sample=True, top_k=5, max_new_tokens=32))
for _ in range(5):
    print("DialoGPT:", chat.reply(input(">> User: ")))
