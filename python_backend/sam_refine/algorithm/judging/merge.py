"""The changes that the judge lets pass, in labels and in scores: S' and L' agree.

Where a pixel changes, the scores of its old and its new class change places. So L' has at each
pixel the values that L has, S' is its argmax wherever S was that of L, and scores that were
probabilities are probabilities still.
"""

from __future__ import annotations

from sam_refine.algorithm.judging.changes import Changes
from sam_refine.algorithm.merge import RefinedMap
from sam_refine.algorithm.scores import ClassScores
from sam_refine.numerics.arrays import Labels, Mask


def judged_map(
    labels_image: Labels,
    scores: ClassScores,
    changes: Changes,
    passed: Mask,
    *,
    want_logits: bool,
) -> RefinedMap:
    """S (H, W) int32 with those of the changes that `passed` (m,) bool."""
    rows, columns = changes.rows[passed], changes.columns[passed]
    old, new = changes.old[passed], changes.new[passed]
    labels = labels_image.copy()
    labels[rows, columns] = new
    if not want_logits:
        return RefinedMap(labels, None)
    logits = scores.image()
    logits[new, rows, columns], logits[old, rows, columns] = (
        logits[old, rows, columns],
        logits[new, rows, columns],
    )
    return RefinedMap(labels, logits)
