"""Triton model `sam_preprocess`: an image onto the canvas of SAM's image encoder."""

import numpy as np

from sam_refine.contract import SAM_PREPROCESS, Limits
from sam_refine.contract.serving.heartbeat import Heartbeat
from sam_refine.contract.serving.run_directory import run_directory
from sam_refine.service.images import to_canvas
from sam_refine.service.request import read_image
from sam_refine.triton.requests import answer_each, input_tensors, read_parameters


class TritonPythonModel:
    def initialize(self, args):
        self.limits = Limits.from_parameters(read_parameters(args))
        self.heartbeat = Heartbeat(run_directory())

    def finalize(self):
        self.heartbeat.end()

    def execute(self, requests):
        with self.heartbeat.answering():
            return answer_each(requests, self.answer)

    def answer(self, request):
        image = read_image(input_tensors(request, SAM_PREPROCESS), self.limits)
        canvas, canvas_size = to_canvas(image)
        return {
            "CANVAS": canvas[None],
            "CANVAS_SIZE": np.array([canvas_size], np.int64),
            "IMAGE_SIZE": np.array(image.shape[:2], np.int64),
        }
