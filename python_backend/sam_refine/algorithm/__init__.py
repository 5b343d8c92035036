"""Algorithm 4, Optimized SAM Refinement: `pipeline.refine`, and a module for each of its steps."""
