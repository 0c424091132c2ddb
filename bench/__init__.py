"""Measurements beside peers, in one run, interleaved: `make bench`.

__main__    options, the table, the JSON        cases    what is measured
measure     interleaving, medians, ratios       warm     what runs inside a zygote's worker
"""
