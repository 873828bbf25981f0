"""A page is taken down: it and what was made of it leave the lake, and no later interval brings it back.

`tombstones` lists such pages, `find` says what the lake holds of one, `erase` removes it, `order` does it all.
"""
