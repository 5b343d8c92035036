"""What local mode keeps of the decoder's answers is what the decoder would say again."""

from __future__ import annotations

import numpy as np

from sam_refine_client import RefineClient, RefineOptions
from sam_refine_client.transport.local_networks import Networks
from support.cases import coarse_scores, photo


def test_local_client_decodes_once_for_the_same_prompts_of_an_image(repository, monkeypatch):
    calls = []
    decode = Networks.decode

    def counting(*arguments):
        calls.append(arguments)
        return decode(*arguments)

    monkeypatch.setattr(Networks, "decode", counting)
    options = [
        RefineOptions(iou_threshold=iou_threshold, failed_regions=failed_regions)
        for iou_threshold in (0.5, 0.8)
        for failed_regions in ("keep_coarse", "scores_only")
    ]
    with RefineClient.local(repository) as client:
        embedding = client.embed(photo(200, 300))
        request = {"embedding": embedding, "logits": coarse_scores()}
        with client.same_image():
            remembered = [client.refine(**request, options=each) for each in options]
        assert len(calls) == 1
        anew = [client.refine(**request, options=each) for each in options]
    assert len(calls) == 1 + len(options)
    for one, other in zip(remembered, anew, strict=True):
        np.testing.assert_array_equal(one.labels, other.labels)
        assert one.regions == other.regions
    assert any((one.labels != remembered[0].labels).any() for one in remembered[1:])
