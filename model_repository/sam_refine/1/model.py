"""Triton model `sam_refine`: read tensors, Algorithm 4, write tensors."""

from functools import partial

from sam_refine.contract import SAM_REFINE, ArrayLibrary, Limits
from sam_refine.memory import free_memory_bytes
from sam_refine.pipeline import refine
from sam_refine.request import read_request
from sam_refine.response import LABEL_OUTPUTS, output_tensors
from sam_refine.stub import (
    ImageEmbedder,
    answer,
    arrays_of,
    decode,
    input_tensors,
    read_parameters,
    request_parameters,
)


class TritonPythonModel:
    def initialize(self, args):
        parameters = read_parameters(args)
        self.limits = Limits.from_parameters(parameters)
        self.arrays = arrays_of(ArrayLibrary.from_parameters(parameters))
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
        asked = asked.placed(self.arrays.place)

        def embed():
            if asked.image is None:
                return asked.embedding
            return self.arrays.place(self.embed(request, asked.image, asked.image_id))

        refinement = refine(
            asked.scores,
            asked.labels,
            asked.options,
            embed=embed,
            decode=partial(decode, request, self.arrays),
            free_memory_bytes=free_memory_bytes(),
            max_regions=asked.max_regions,
            want_labels=not LABEL_OUTPUTS.isdisjoint(wanted),
            want_logits="REFINED_LOGITS" in wanted,
        )
        return output_tensors(refinement, wanted)
