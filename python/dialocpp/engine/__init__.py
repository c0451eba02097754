"""How do the requests of all callers share one engine? May import `decoding`, `text` and what is below them;
never `prompt`, `chat` or `model`: the engine knows token ids and no turns.
"""
