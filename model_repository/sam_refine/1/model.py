"""Triton model `sam_refine`: read tensors, Algorithm 4, write tensors."""

from functools import partial

from sam_refine.contract import SAM_REFINE
from sam_refine.memory import free_memory_bytes
from sam_refine.pipeline import refine
from sam_refine.request import read_request
from sam_refine.response import LABEL_OUTPUTS, output_tensors
from sam_refine.stub import (
    ImageEmbedder,
    answer,
    decode,
    input_tensors,
    read_limits,
    request_parameters,
)


class TritonPythonModel:
    def initialize(self, args):
        self.limits = read_limits(args)
        self.embed = ImageEmbedder(args, self.limits)

    def finalize(self):
        self.embed.close()

    def execute(self, requests):
        return answer(requests, self.respond)

    def respond(self, request):
        wanted = request.requested_output_names()
        asked = read_request(
            input_tensors(request, SAM_REFINE), request_parameters(request), wanted, self.limits
        )
        refinement = refine(
            asked.scores,
            asked.labels,
            asked.options,
            embed=partial(self.embed, request, asked.image, asked.image_id)
            if asked.embedding is None
            else lambda: asked.embedding,
            decode=partial(decode, request),
            free_memory_bytes=free_memory_bytes(),
            max_regions=asked.max_regions,
            want_labels=not LABEL_OUTPUTS.isdisjoint(wanted),
            want_logits="REFINED_LOGITS" in wanted,
        )
        return output_tensors(refinement, wanted)
