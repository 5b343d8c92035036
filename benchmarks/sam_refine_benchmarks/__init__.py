"""Measures sam-refine against what its users would run otherwise, side by side on the same cores.

`suite.BENCHMARKS` lists what is measured, one module each. Every ratio is taken between runs that
alternate in one process (or, through a server, on one machine), and is a ratio of medians: times
say something about a machine, such ratios something about the code. `straight` is the other side:
the algorithm written straight in PyTorch with segment-anything's own modules.

Letters in shapes are those of the package `sam_refine`.
"""
