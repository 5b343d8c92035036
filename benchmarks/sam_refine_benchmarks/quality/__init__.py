"""`make bench-quality`: what refinement does to coarse maps, on labelled data that the user names.

No data is part of this project: the results say whose they are.
"""
