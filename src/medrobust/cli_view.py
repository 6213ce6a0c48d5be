"""The command `medrobust view`: a run in the browser."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from medrobust.console import say


def view(
    run: Annotated[Path, typer.Argument(help="Folder of a run, also of one under way.", show_default=False)],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 for any that is free.")] = 8737,
) -> None:
    """Show a run in the browser, or how far it is; to this machine alone, until Ctrl-C."""
    from medrobust.viewing import HOST, run_server

    with run_server(run, port) as server, contextlib.suppress(KeyboardInterrupt):
        say(f"http://{HOST}:{server.server_address[1]}/ (Ctrl-C ends it)")
        server.serve_forever()
