"""What the parent works out of config.json before a birth, so that the child only makes calls.

Everything here is bytes, ints and tuples: encoded, resolved and checked.
"""
