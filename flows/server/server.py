"""Prefect's server for a run: one that is set and answers, or an embedded one of its own."""

from flows.server.server_settings import ServerError, server_is_set, server_problem


def ensure_server() -> None:
    """Make sure that a server answers: the one that is set, or else an embedded one.

    An embedded server ends with this process, even if that is killed, and is left alone by Ctrl-C.

    Raises:
        ServerError: within seconds, if the server that is set is not there, or none starts.
    """
    problem = server_problem()
    if problem:
        raise ServerError(problem)
    if not server_is_set():
        from flows.server.embedded_server import start_embedded_server

        start_embedded_server()
