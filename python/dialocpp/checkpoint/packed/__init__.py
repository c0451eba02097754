"""How does our own weight format lie in a file, and how is the copy of a model kept? (docs/format.md)"""
