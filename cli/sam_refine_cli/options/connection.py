"""Which server a command calls, and how: the options of all commands that call one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from sam_refine.contract import InvalidRequestError
from sam_refine_cli.console import errors_in_one_line, need_extra
from sam_refine_cli.options.groups import OptionGroup, option, usage_errors

if TYPE_CHECKING:
    from sam_refine_client import RefineClient, RefineError, ServerInfo

T = TypeVar("T")
DEFAULT_URL: Final = "127.0.0.1:8001"
_PATIENCE_S: Final = 30.0
_PANEL: Final = "Connection"


@dataclass(frozen=True)
class Connection:
    """What the options say; `open` makes a client of it."""

    urls: tuple[str, ...]
    local: Path | None
    tls: dict[str, Any] | None
    """Arguments of the client's `Tls`."""
    headers: dict[str, str]
    attempts: int | None
    timeout_s: float | None
    is_of_environment: bool = False
    """Whether the address is not given by hand: then the environment's headers go with it."""

    @property
    def name(self) -> str:
        """What is called, in words."""
        return str(self.local) if self.local else ", ".join(self.urls)

    def each(self) -> list[Connection]:
        """One for each address."""
        return [self] if self.local else [replace(self, urls=(url,)) for url in self.urls]

    def infos(self) -> dict[str, ServerInfo]:
        """What the servers that answer, and are ready, say of themselves, by address.

        Raises `RefineError` where there is none of them: that of an address that does not let
        itself be asked, else of the last.
        """
        from sam_refine_client import ForbiddenError, ProtocolError, RefineError, UnreachableError

        infos: dict[str, ServerInfo] = {}
        failure: RefineError | None = None
        for each in self.each():
            try:
                with each.open() as client:
                    # `timeout_s` is of one request; this asks of each model.
                    info = client.info(timeout_s=max(self.timeout_s or 0.0, _PATIENCE_S))
                if info.limits is None:
                    raise UnreachableError(f"the models of {each.name} are not ready")
            except RefineError as error:
                if not isinstance(failure, ForbiddenError | ProtocolError):
                    failure = error
            else:
                infos[each.name] = info
        if failure is not None and not infos:
            raise failure
        return infos

    @contextmanager
    def open(self) -> Iterator[RefineClient]:
        """A client; ends with exit code 1 where an extra or the export is missing."""
        need_extra("client", "tritonclient", "grpc", "PIL")
        if self.local is not None:
            need_extra("local", "onnxruntime", "cc3d", "array_api_compat")
        from sam_refine_client import ConnectionOptions, RefineClient, Retries, Tls
        from sam_refine_client.transport.environment import environment_headers

        if self.local is not None:
            with errors_in_one_line(InvalidRequestError, OSError):
                client = RefineClient.local(self.local)
        else:
            with usage_errors(), errors_in_one_line(OSError):
                inherited = environment_headers() if self.is_of_environment else {}
                options = ConnectionOptions(
                    tls=None if self.tls is None else Tls(**self.tls),
                    headers={**inherited, **self.headers},
                    retries=Retries(attempts=self.attempts),
                )
                client = RefineClient(self.urls, connection=options)
        with client:
            yield client


def _connection(
    url: list[str] | None,
    local: Path | None,
    tls: bool,
    tls_ca: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_server_name: str | None,
    header: list[str] | None,
    attempts: int | None,
    timeout_s: float | None,
    written: set[str],
) -> Connection:
    is_of_environment = not {"url", "local"} & written
    if not is_of_environment:  # it speaks of another server
        url = url if "url" in written else None
        local = local if "local" in written else None
        tls = tls and "tls" in written
        tls_ca, tls_cert = _if("tls_ca", tls_ca, written), _if("tls_cert", tls_cert, written)
        tls_key = _if("tls_key", tls_key, written)
        tls_server_name = _if("tls_server_name", tls_server_name, written)
    files = {
        "root_certificates": tls_ca,
        "certificate_chain": tls_cert,
        "private_key": tls_key,
        "server_name": tls_server_name,
    }
    given = {name: value for name, value in files.items() if value is not None}
    is_encrypted = tls or bool(given)
    if local is not None and (url or header or is_encrypted):
        raise InvalidRequestError("--local calls no server: it goes without --url, --tls, --header")
    if (tls_cert is None) != (tls_key is None):
        raise InvalidRequestError("--tls-cert and --tls-key go together")
    if timeout_s is not None and not timeout_s > 0:
        raise InvalidRequestError(f"--timeout-s must be > 0, got {timeout_s:g}")
    headers = dict(_header(text) for text in header or ())
    tls_arguments = given if is_encrypted else None
    urls = tuple(each for text in url or () for each in text.split(",") if each) or (DEFAULT_URL,)
    return Connection(urls, local, tls_arguments, headers, attempts, timeout_s, is_of_environment)


def _if(name: str, value: T, written: set[str]) -> T | None:
    """A value that stands in the command line; None for one of the environment."""
    return value if name in written else None


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise InvalidRequestError("--header must be NAME=VALUE")  # its value may be a secret
    return name, value


def _file(text: str, variable: str) -> Any:
    return typer.Option(
        metavar="FILE",
        help=text,
        exists=True,
        dir_okay=False,
        envvar=variable,
        rich_help_panel=_PANEL,
    )


CONNECTION: Final = OptionGroup(
    (
        option(
            "url",
            Annotated[
                list[str] | None,
                typer.Option(
                    metavar="HOST:PORT",
                    envvar="SAM_REFINE_URL",
                    help="gRPC address of the server; several with commas, or given again.",
                    show_default=DEFAULT_URL,
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
        option(
            "local",
            Annotated[
                Path | None,
                typer.Option(
                    metavar="REPOSITORY",
                    envvar="SAM_REFINE_LOCAL",
                    help="Needs no server: works in this process, with what `sam-refine export` "
                    "wrote (extra local).",
                    file_okay=False,
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
        option(
            "tls",
            Annotated[
                bool,
                typer.Option(
                    "--tls",
                    envvar="SAM_REFINE_TLS",
                    help="Encrypt, trusting the authorities of the system. Each of the other "
                    "options of TLS encrypts, too.",
                    rich_help_panel=_PANEL,
                ),
            ],
            False,
        ),
        option(
            "tls_ca",
            Annotated[
                Path | None,
                _file("Trust the authorities of this PEM file instead.", "SAM_REFINE_TLS_CA"),
            ],
            None,
        ),
        option(
            "tls_cert",
            Annotated[
                Path | None,
                _file("This client's own certificate, PEM (mutual TLS).", "SAM_REFINE_TLS_CERT"),
            ],
            None,
        ),
        option(
            "tls_key",
            Annotated[Path | None, _file("Its private key, PEM.", "SAM_REFINE_TLS_KEY")],
            None,
        ),
        option(
            "tls_server_name",
            Annotated[
                str | None,
                typer.Option(
                    metavar="NAME",
                    envvar="SAM_REFINE_TLS_SERVER_NAME",
                    help="The name in the server's certificate where it is not the host of --url.",
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
        option(
            "header",
            Annotated[
                list[str] | None,
                typer.Option(
                    metavar="NAME=VALUE",
                    help="Goes with every call, for gateways and restricted protocols. May be "
                    "given again; in SAM_REFINE_HEADER with semicolons between.",
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
        option(
            "attempts",
            Annotated[
                int | None,
                typer.Option(
                    metavar="N",
                    envvar="SAM_REFINE_ATTEMPTS",
                    help="How often a request is sent in all where the server cannot be reached, "
                    "has no room or is healing. By default until --timeout-s, or 8 times.",
                    min=1,
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
        option(
            "timeout_s",
            Annotated[
                float | None,
                typer.Option(
                    metavar="SECONDS",
                    envvar="SAM_REFINE_TIMEOUT_S",
                    help="Give a request up after this time, its attempts included. Without it "
                    "only `health` does, after 30.",
                    rich_help_panel=_PANEL,
                ),
            ],
            None,
        ),
    ),
    _connection,
    tells_written=True,
)
