"""The socket that the endpoint and its engines listen on."""

import socket

import pytest

from autoalign.serving.http_server import bind


def test_what_an_answer_says_is_sent_at_once():
    """Without TCP_NODELAY an answer's body waits for the client to acknowledge its head: 40 ms on Linux."""
    with bind("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_gateway_that_takes_over_listens_beside_the_old_one():
    with bind("127.0.0.1", 0, shared=True) as old:
        port = old.getsockname()[1]
        bind("127.0.0.1", port, shared=True).close()
        with pytest.raises(OSError, match="in use"):
            bind("127.0.0.1", port)
