"""How does one get better weights? Needs `pip install "dialocpp[train]"`; torch is imported in this room alone.

May import `evaluation`'s files and the rooms below them.
"""
