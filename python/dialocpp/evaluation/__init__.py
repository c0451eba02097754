"""How good are the replies, and what did int8 cost? May import `chat` and all rooms below it; asks no network."""
