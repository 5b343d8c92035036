"""A judge of masks, learned from labelled images: `sam-refine tune`.

Its modules:

    tune        the whole: samples to a judge, and what it is worth
    recording   what SAM draws for one image, for judges to be tried on
    tables      what a judge learns from
    learn       trees, and the cross-validation
    judge_onnx  the judge as a graph
    files       judge.onnx, preset.json and card.json
"""
