"""How does text become token ids, and ids printable text? May import `checkpoint` and what is below it."""
