"""How do turns become a prompt that fits? May import `text` and what is below it; never `decoding` or `engine`."""
