"""Triton model `sam_refine`: read tensors, Algorithm 4, write tensors."""

from functools import partial
from pathlib import Path

from sam_refine.contract import SAM_REFINE, ArrayLibrary, Limits
from sam_refine.contract.serving.heartbeat import Heartbeat
from sam_refine.contract.serving.run_directory import run_directory
from sam_refine.service.answer import answer
from sam_refine.service.work_times import WorkTimes
from sam_refine.triton.devices import arrays_of
from sam_refine.triton.metrics import RefineMetrics
from sam_refine.triton.models import ImageEmbedder, decode, judge_of
from sam_refine.triton.requests import (
    answer_each,
    input_tensors,
    read_parameters,
    request_parameters,
)


class TritonPythonModel:
    def initialize(self, args):
        parameters = read_parameters(args)
        self.limits = Limits.from_parameters(parameters)
        self.arrays = arrays_of(ArrayLibrary.from_parameters(parameters))
        self.repository = Path(args["model_repository"]).parent
        self.metrics = RefineMetrics()
        self.embed = ImageEmbedder(args, self.limits, self.metrics)
        self.work_times = WorkTimes()
        self.heartbeat = Heartbeat(run_directory())

    def finalize(self):
        self.heartbeat.end()
        self.embed.close()

    def execute(self, requests):
        with self.heartbeat.answering():
            return answer_each(requests, self.answer, self.metrics.failed)

    def answer(self, request):
        return answer(
            input_tensors(request, SAM_REFINE),
            request_parameters(request),
            request.requested_output_names(),
            self.limits,
            embed=partial(self.embed, request),
            decode=partial(decode, request, self.arrays),
            judge=judge_of(request, self.repository),
            place=self.arrays.place,
            report=self.metrics.refined,
            work_times=self.work_times,
            shares_memory=True,
        )
