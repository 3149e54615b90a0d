"""The HTTP server holds to HTTP/1.1 and to its limits, whatever clients send."""

import asyncio
import gzip
import http.client
import select
import socket
import threading
import time

import pytest

from serving.model_server.http_connection import HttpLimits, html_error
from serving.model_server.http_parser import HttpError, Request, RequestParser, decoded_body
from serving.model_server.http_server import HttpServer
from serving.model_server.rest import Answer


def parse(data: bytes, max_body: int = 1000) -> Request | None:
    parser = RequestParser(max_body)
    parser.feed(data)
    return parser.next_request()


def status_of(data: bytes) -> int:
    with pytest.raises(HttpError) as caught:
        parse(data)
    return caught.value.status


def test_a_request_is_whole_when_its_body_is():
    parser = RequestParser(1000)
    parser.feed(b"POST /v1/x?y#z HTTP/1.1\r\nHost: a\r\nContent-Le")
    assert parser.next_request() is None
    parser.feed(b"ngth: 3\r\n\r\nab")
    assert parser.next_request() is None
    parser.feed(b"cGET / HTTP/1.0\r\n\r\n")
    assert parser.next_request() == Request(
        "POST", "/v1/x?y#z", {"host": "a", "content-length": "3"}, b"abc", keep_alive=True
    )
    assert parser.next_request() == Request("GET", "/", {}, b"", keep_alive=False)
    assert not parser.started


def test_chunks_are_joined_and_trailers_are_skipped():
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    whole = head + b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
    assert parse(whole).body == b"abc0123456789"
    parser = RequestParser(1000)
    for index in range(len(whole)):
        assert parser.next_request() is None
        parser.feed(whole[index : index + 1])
    assert parser.next_request().body == b"abc0123456789"


def test_an_absolute_target_is_served_by_its_path():
    assert parse(b"GET http://shop.example:8501/v1/models/x HTTP/1.1\r\n\r\n").path == "/v1/models/x"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\n\r\n", 400),
        (b'GET /"x HTTP/1.1\r\n\r\n', 400),
        (b"GET /%zz HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"TRACE / HTTP/1.1\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, 400),
    ],
)
def test_what_is_no_request_is_refused(head, status):
    assert status_of(head) == status


def test_gzip_bodies_are_read_and_damaged_ones_count_as_empty():
    packed = gzip.compress(b"hello")
    headers = {"content-encoding": "gzip"}
    assert decoded_body(headers, packed, 100) == b"hello"
    assert decoded_body({}, packed, 100) == packed
    assert decoded_body(headers, packed[:-1], 100) == b""
    assert decoded_body(headers, packed + b"x", 100) == b""
    assert decoded_body(headers, b"hello", 100) == b""
    with pytest.raises(HttpError):
        decoded_body(headers, gzip.compress(b"a" * 101), 100)


class Echo:
    """A server that answers with the request's body, slowly for /slow, and can be drained."""

    def __init__(self, **limits) -> None:
        self.loop = asyncio.new_event_loop()
        self.release = threading.Event()
        self.server = HttpServer(self, threads=2, limits=HttpLimits(**limits))
        ready = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self.thread.start()
        ready.wait(10)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.server.start("127.0.0.1", 0))
        self.port = self.server._server.sockets[0].getsockname()[1]
        ready.set()
        self.loop.run_forever()

    def answer(self, request: Request) -> Answer:
        if request.path == "/slow":
            self.release.wait(10)
        if request.path == "/big":
            return Answer(200, b"x" * (32 << 20))
        if request.path == "/fail":
            raise RuntimeError("a secret of the implementation")
        return Answer(200, request.body or request.path.encode())

    def begin(self, request: Request, done) -> bool:
        return False

    def connect(self) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return sock

    def drain(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.drain(5, 0.05), self.loop).result(10)

    def stop(self) -> None:
        self.release.set()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)


@pytest.fixture
def echo():
    server = Echo(max_body_bytes=1000, read_seconds=0.5, idle_seconds=1.5, answer_seconds=5)
    yield server
    server.stop()


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while chunk := sock.recv(65536):
        data += chunk
    return data


def read_answer(sock: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += sock.recv(65536)
    return head, body


def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(echo):
    sock = echo.connect()
    sock.sendall(b"GET /one HTTP/1.1\r\n\r\nGET /two HTTP/1.1\r\n\r\nGET /three HTTP/1.1\r\nConnection: close\r\n\r\n")
    data = read_all(sock)
    assert [data.index(path) for path in (b"/one", b"/two", b"/three")] == sorted(
        data.index(path) for path in (b"/one", b"/two", b"/three")
    )
    assert data.count(b"HTTP/1.1 200 OK") == 3
    assert data.count(b"Connection: close") == 1


def test_a_client_that_asks_first_is_told_to_go_on(echo):
    sock = echo.connect()
    sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    sock.sendall(b"ok")
    assert read_answer(sock)[1] == b"ok"


def test_a_body_beyond_the_limit_is_413_before_it_is_read(echo):
    sock = echo.connect()
    sock.sendall(b"POST / HTTP/1.1\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
    assert read_all(sock).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_sends_its_large_body_first_still_reads_the_413(echo):
    connection = http.client.HTTPConnection("127.0.0.1", echo.port, timeout=10)
    connection.request("POST", "/", b"x" * (20 << 20))
    response = connection.getresponse()
    assert response.status == 413
    assert response.getheader("Connection") == "close"
    connection.close()


def test_a_kept_connection_of_http_1_0_is_told_that_it_is_kept(echo):
    sock = echo.connect()
    sock.sendall(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert b"\r\nConnection: keep-alive" in read_answer(sock)[0]
    sock.sendall(b"GET /b HTTP/1.0\r\n\r\n")
    assert read_all(sock).endswith(b"/b")


def test_nonsense_is_answered_with_an_html_page(echo):
    sock = echo.connect()
    sock.sendall(b"\x16\x03\x01 hello\r\n\r\n")
    data = read_all(sock)
    assert data.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n")
    assert html_error(404).body == (
        b"<HTML><HEAD>\n<TITLE>404 Not Found</TITLE>\n</HEAD><BODY>\n<H1>Not Found</H1>\n</BODY></HTML>\n"
    )


def test_a_handler_that_fails_tells_nothing_of_itself(echo):
    sock = echo.connect()
    sock.sendall(b"GET /fail HTTP/1.1\r\nConnection: close\r\n\r\n")
    data = read_all(sock)
    assert data.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in data


def test_a_client_that_sends_a_byte_now_and_then_is_let_go_and_others_are_served(echo):
    slow, quick = echo.connect(), echo.connect()
    slow.sendall(b"POST / HTTP/1.1\r\nContent-Length: 900\r\n\r\n")
    for _ in range(100):
        slow.sendall(b"x")
        quick.sendall(b"GET /quick HTTP/1.1\r\n\r\n")
        assert read_answer(quick)[1] == b"/quick"
        if select.select([slow], [], [], 0.1)[0]:
            break
    assert read_all(slow).startswith(b"HTTP/1.1 408 ")


def test_an_idle_connection_is_closed(echo):
    sock = echo.connect()
    assert sock.recv(10) == b""


def test_a_passed_deadline_is_504_while_the_work_goes_on():
    echo = Echo(answer_seconds=0.2)
    sock = echo.connect()
    sock.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
    head, body = read_answer(sock)
    assert head.startswith(b"HTTP/1.1 504 ")
    assert body == b'{\n    "error": "Timed out waiting for notification"\n}'
    echo.release.set()
    sock.sendall(b"GET /next HTTP/1.1\r\n\r\n")
    assert read_answer(sock)[1] == b"/next"
    echo.stop()


def test_a_full_queue_is_503_at_once():
    echo = Echo(max_waiting=2)
    waiting = [echo.connect() for _ in range(2)]
    for sock in waiting:
        sock.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
    while echo.server.waiting < 2:
        time.sleep(0.01)
    sock = echo.connect()
    sock.sendall(b"GET /x HTTP/1.1\r\n\r\n")
    assert read_answer(sock)[0].startswith(b"HTTP/1.1 503 ")
    echo.release.set()
    assert [read_answer(each)[1] for each in waiting] == [b"/slow", b"/slow"]
    sock.sendall(b"GET /y HTTP/1.1\r\n\r\n")
    assert read_answer(sock)[1] == b"/y"
    echo.stop()


def test_a_client_that_does_not_read_its_answer_is_let_go():
    echo = Echo(write_seconds=0.3)
    sock = echo.connect()
    sock.sendall(b"GET /big HTTP/1.1\r\n\r\n")
    deadline = time.monotonic() + 10
    while not echo.server.connections and time.monotonic() < deadline:
        time.sleep(0.01)
    while echo.server.connections and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not echo.server.connections
    echo.stop()


def test_draining_finishes_running_requests_and_then_refuses_new_ones(echo):
    sock, idle = echo.connect(), echo.connect()
    sock.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
    while echo.server.waiting < 1:
        time.sleep(0.01)
    threading.Timer(0.5, echo.release.set).start()
    echo.drain()
    head, body = read_answer(sock)
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"Connection: close" in head
    assert body == b"/slow"
    assert idle.recv(10) == b""
    with pytest.raises(OSError):
        echo.connect()
