"""How good label maps are: sums over pixels, figures made of them, and how sure these are.

Letters: H, W image; C classes; n images; R resamples. `...` stands for axes of images or resamples,
or for none: sums and figures have the same form for an image, a data set and a thousand of them.
"""
