"""Loads and unloads models of a running server, with the key that it asks for."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from threading import Event
from typing import Final

from sam_refine_deploy.errors import ServeError

KEY_HEADER: Final = "sam-refine-key"
_RETRY_S: Final = 0.1
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy


@dataclass(frozen=True)
class ModelControl:
    """Triton's model repository API at one HTTP address."""

    http_address: str
    key: str

    def reload(self, model: str, timeout_s: float, cancelled: Event) -> None:
        """Unload a model and load it again, with fresh stubs. Other models are not disturbed.

        Raises `ServeError` where it is not loaded in time, or `cancelled` is set meanwhile.
        """
        deadline_s = time.monotonic() + timeout_s
        self.unload(model, timeout_s)
        while True:  # it is not loaded before the old one is gone
            remaining_s = deadline_s - time.monotonic()
            try:
                return self._post(f"{model}/load", {}, max(remaining_s, _RETRY_S))
            except ServeError:
                if remaining_s <= _RETRY_S or cancelled.wait(_RETRY_S):
                    raise

    def unload(self, model: str, timeout_s: float) -> None:
        """Take no more requests for a model; those in flight are answered. Comes back at once."""
        self._post(f"{model}/unload", {"parameters": {"unload_dependents": False}}, timeout_s)

    def _post(self, what: str, body: object, timeout_s: float) -> None:
        request = urllib.request.Request(
            f"http://{self.http_address}/v2/repository/models/{what}",
            json.dumps(body).encode(),
            {KEY_HEADER: self.key},
        )
        try:
            with _opener.open(request, timeout=timeout_s):
                return
        except urllib.error.HTTPError as error:
            text = error.read(2000).decode("utf-8", errors="replace")
            raise ServeError(f"{what}: {text}") from error
        except OSError as error:
            raise ServeError(f"{what}: {error}") from error
