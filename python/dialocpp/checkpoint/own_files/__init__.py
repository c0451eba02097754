"""How does this package write files so that nobody's link, folder or crash leads them astray? Imports nothing of it."""
