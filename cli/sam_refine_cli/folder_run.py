"""A run over a folder of images: what it may go on from, and what it notes down."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam_refine.contract import NETWORKS_SHA256, InvalidRequestError
from sam_refine_cli.options.connection import Connection
from sam_refine_cli.report import Report

if TYPE_CHECKING:
    from sam_refine_client.inputs.images import ImageFile


class FolderRun:
    """The manifest and the records of a folder of results."""

    def __init__(
        self,
        out: Path,
        settings: Mapping[str, Any],
        connection: Connection,
        *,
        goes_on: bool,
        is_folder: bool,
    ) -> None:
        """`settings` are the manifest's, without what tells the model.

        A run over a folder that `goes_on` is held against the results that are there. A server that
        does not say which it is is taken for theirs, until `begin`. Raises `InvalidRequestError`,
        `OSError`.
        """
        from sam_refine_client import RefineError
        from sam_refine_client.files.run_manifest import (
            InputRecords,
            check_goes_on,
            read_manifest,
        )

        self._out = out
        self._settings = dict(settings)
        self._connection = connection
        self._goes_on = goes_on
        self._is_begun = False
        facts: dict[str, Any] = {}
        if goes_on and (manifest := read_manifest(out)) is not None:
            try:
                facts = model_facts(connection, attempts=1)
            except RefineError:
                facts = model_of(manifest)
        if goes_on and is_folder:
            check_goes_on(out, {**settings, **facts})
        self.records = InputRecords(out, {**settings, **facts})

    def begin(self, image: ImageFile, report: Report) -> None:
        """Note down what an image's results, which have just come, and all after it are made with.

        Servers of an earlier export, and those that refine but are not to be asked, say nothing.
        Ends the run, with nothing written, where the model is not that of the results that are
        there, or no server answers any more. Raises `OSError`.
        """
        from sam_refine_client import ForbiddenError, ProtocolError, RefineError
        from sam_refine_client.files.run_manifest import check_goes_on, write_manifest

        if self._is_begun or not image.is_of_folder:
            return
        try:
            try:
                facts = model_facts(self._connection)
            except (ForbiddenError, ProtocolError):
                facts = model_of({})
            settings = {**self._settings, **facts}
            if self._goes_on:
                check_goes_on(self._out, settings)
        except (RefineError, InvalidRequestError) as error:
            report.ended(image.path, error)
        write_manifest(self._out, settings)
        self.records.made_with(settings)
        self._is_begun = True


def model_facts(connection: Connection, attempts: int | None = None) -> dict[str, Any]:
    """What tells a model from another: the model card's digest, or what servers say of theirs.

    Raises `RefineError` where no server says anything, also after some attempts, or for as long as
    a request may take; `InvalidRequestError` where they differ; `OSError`.
    """
    from sam_refine_client import DeadlineError, OverloadedError, Retries, UnreachableError
    from sam_refine_client.files.run_manifest import MODEL_CARD, card_digest
    from sam_refine_client.status.info import agreed_networks

    if connection.local is not None:
        return {MODEL_CARD: card_digest(connection.local)}
    retries = Retries(attempts=attempts or connection.attempts)
    most = retries.most(connection.timeout_s, is_hopeful=True)
    since_s, attempt = time.monotonic(), 0
    while True:
        attempt += 1
        try:
            return model_of({NETWORKS_SHA256: agreed_networks(connection.infos())})
        except (UnreachableError, OverloadedError, DeadlineError):
            is_over = time.monotonic() - since_s > (connection.timeout_s or math.inf)
            if attempt >= most or is_over:
                raise
            time.sleep(retries.wait_s(attempt))


def model_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of a manifest's settings tells a server's model; its card is not known."""
    from sam_refine_client.files.run_manifest import MODEL_CARD

    networks = settings.get(NETWORKS_SHA256)
    return {MODEL_CARD: None} | ({} if networks is None else {NETWORKS_SHA256: networks})
