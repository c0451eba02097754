"""How does one hold a conversation? May import `model` and all rooms below it."""
