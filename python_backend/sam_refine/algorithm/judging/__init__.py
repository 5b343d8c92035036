"""Judged masks, an extension of Algorithm 4: masks are taken where that should gain something.

Its modules, in the order of their work:

    mask_grid    the coarse map at the resolution of SAM's masks
    candidates   the four masks of each region, measured
    proposals    the mask of each region that a judge foretells most of, in the image
    changes      the pixels that the proposals would change, measured
    merge        the changes that the judge lets pass, in labels and in scores
    judge        what a judge is, and the one that has learned nothing

`docs/algorithm.md` has the extension as a listing.
"""
