"""SPDY/3.1: frames, and the connection they make."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.wire import spdy
from sampan.wire.spdy import Data, Decoder, Encoder, Frame, SpdyError, SynStream
from sampan.wire.spdyconnection import (
    FRAME_MAX,
    STREAMS_MAX,
    UPDATE_STEP,
    WINDOW_DEFAULT,
    Connection,
    Dropped,
    Ended,
    Left,
    Opened,
    Received,
    Writable,
)

NAMES = st.text("abcdefghij-", min_size=1, max_size=12)
HEADERS = st.lists(st.tuples(NAMES, st.text(max_size=20)), max_size=5).map(tuple)
STREAM = st.integers(1, 2**31 - 1)
NUMBER = st.integers(0, 2**31 - 1)
FRAMES = st.one_of(
    st.builds(SynStream, STREAM, HEADERS, st.booleans(), st.booleans()),
    st.builds(spdy.SynReply, STREAM, HEADERS, st.booleans()),
    st.builds(spdy.MoreHeaders, STREAM, HEADERS, st.booleans()),
    st.builds(spdy.Rst, STREAM, NUMBER),
    st.builds(spdy.Ping, st.integers(0, 2**32 - 1)),
    st.builds(spdy.GoAway, STREAM, NUMBER),
    st.builds(spdy.WindowUpdate, STREAM, NUMBER),
    st.builds(
        spdy.Settings,
        st.lists(st.tuples(st.integers(0, 2**24 - 1), NUMBER), max_size=4).map(tuple),
    ),
    st.builds(Data, STREAM, st.binary(max_size=200), st.booleans()),
)
STREAM_HEADERS = (("streamtype", "data"), ("port", "80"))


def joined(frames: list[Frame]) -> list[Frame]:
    """Parts of data frames put together again."""
    out: list[Frame] = []
    for frame in frames:
        match (out[-1] if out else None), frame:
            case Data(before, head, False), Data(stream, rest, fin) if before == stream:
                out[-1] = Data(stream, head + rest, fin)
            case _:
                out.append(frame)
    return out


def test_the_dictionary_is_the_protocols() -> None:
    # Its checksum is in every stream that zlib makes with it.
    assert zlib.adler32(spdy.DICTIONARY) == 0xE3C6A7C2


@given(st.lists(FRAMES, max_size=8), st.integers(1, 50))
def test_frames_survive_any_cut(frames: list[Frame], size: int) -> None:
    encoder, decoder = Encoder(), Decoder()
    text = b"".join(encoder.encode(frame) for frame in frames)
    got: list[Frame] = []
    for start in range(0, len(text), size):
        got += decoder.feed(text[start : start + size])
    assert joined(got) == joined(list(frames))


@given(st.lists(st.binary(max_size=300), max_size=5), st.booleans())
def test_any_bytes_are_frames_or_an_error(parts: list[bytes], inside: bool) -> None:
    """Nothing but SpdyError, whatever comes; also behind a good frame."""
    connection = Connection()
    peer = Connection(client=True)
    peer.open(STREAM_HEADERS)
    try:
        if inside:
            connection.receive(peer.take())
        for part in parts:
            connection.receive(part)
    except SpdyError:
        return
    assert connection.waiting < 1 << 20


@pytest.mark.parametrize(
    ("kind", "payload", "why"),
    [
        (spdy.SYN_STREAM, b"\0" * 4, "too short"),
        (spdy.SYN_STREAM, b"\0" * 10 + b"garbage", "decompressed"),
        (spdy.SETTINGS, b"\0\0\0\xff", "not as long as it says"),
    ],
)
def test_bad_control_frames(kind: int, payload: bytes, why: str) -> None:
    with pytest.raises(SpdyError, match=why):
        Decoder().feed(spdy._control(kind, payload))


def test_headers_are_no_bomb() -> None:
    pack = zlib.compressobj(zdict=spdy.DICTIONARY)
    block = pack.compress(b"\0" * (4 << 20)) + pack.flush(zlib.Z_SYNC_FLUSH)
    assert len(block) < spdy.CONTROL_MAX
    with pytest.raises(SpdyError, match="too long"):
        Decoder().feed(spdy._control(spdy.SYN_STREAM, b"\0" * 10 + block))


@pytest.mark.parametrize("length", [spdy.CONTROL_MAX + 1, (1 << 24) - 1])
def test_a_long_control_frame_is_refused_at_its_head(length: int) -> None:
    head = b"\x80\x03\x00\x01\x00" + length.to_bytes(3, "big")
    with pytest.raises(SpdyError, match="too long"):
        Decoder().feed(head)


def test_another_version_is_refused() -> None:
    with pytest.raises(SpdyError, match="version 2"):
        Decoder().feed(b"\x80\x02\x00\x01\x00\x00\x00\x00")


class Pair:
    """A client and a server, and what each has heard."""

    def __init__(self) -> None:
        self.client, self.server = Connection(client=True), Connection()

    def pump(self) -> tuple[list[object], list[object]]:
        """(events of the client, events of the server) until both are silent."""
        ours: list[object] = []
        theirs: list[object] = []
        while self.client.waiting or self.server.waiting:
            theirs += self.server.receive(self.client.take())
            ours += self.client.receive(self.server.take())
        return ours, theirs

    def open(self) -> int:
        stream = self.client.open(STREAM_HEADERS)
        self.pump()
        return stream


def test_a_stream_both_ways_and_its_end() -> None:
    pair = Pair()
    stream = pair.client.open(STREAM_HEADERS)
    assert pair.client.send(stream, b"hello") == 5
    pair.client.finish(stream)
    _, heard = pair.pump()
    assert heard == [
        Opened(stream, STREAM_HEADERS, False),
        Received(stream, b"hello"),
        Ended(stream),
    ]
    pair.server.send(stream, b"x" * (FRAME_MAX + 1))
    pair.server.finish(stream)
    ours, _ = pair.pump()
    assert b"".join(item.data for item in ours if isinstance(item, Received)) == b"x" * (
        FRAME_MAX + 1
    )
    assert ours[-1] == Ended(stream)
    assert not pair.client.streams
    assert not pair.server.streams


def test_a_reset_ends_both_ways_and_late_data_is_dropped() -> None:
    pair = Pair()
    stream = pair.open()
    pair.server.reset(stream)
    pair.client.send(stream, b"late")
    ours, theirs = pair.pump()
    assert ours == [Dropped(stream, spdy.CANCEL)]
    assert theirs == []
    # What is sent on a stream that has gone is gone too, and blocks nobody.
    assert pair.client.send(stream, b"more") == 4
    assert not pair.client.waiting


def test_without_flow_control_a_peer_is_sent_all() -> None:
    """The library behind kubectl never tells a window: silence is no full window."""
    pair = Pair()
    stream = pair.open()
    assert pair.server.send(stream, b"x" * (1 << 20)) == 1 << 20


def test_a_peer_with_windows_is_kept_to_them() -> None:
    pair = Pair()
    stream = pair.open()
    settings = spdy.Settings(((spdy.INITIAL_WINDOW_SIZE, 10),))
    assert Writable(0) in pair.server.receive(pair.client._encoder.encode(settings))
    assert pair.server.send(stream, b"x" * 100) == 10
    assert pair.server.send(stream, b"x") == 0
    more = pair.client._encoder.encode(spdy.WindowUpdate(stream, 5))
    assert pair.server.receive(more) == [Writable(stream)]
    assert pair.server.send(stream, b"x" * 100) == 5
    # The connection has a window of its own.
    wide = pair.client._encoder.encode(spdy.WindowUpdate(stream, 1 << 20))
    pair.server.receive(wide)
    assert pair.server.send(stream, b"x" * (1 << 20)) == WINDOW_DEFAULT - 15


def test_what_is_consumed_is_announced() -> None:
    pair = Pair()
    stream = pair.open()
    pair.client.send(stream, b"x" * UPDATE_STEP)
    pair.pump()
    assert not pair.client.governed
    pair.server.consumed(stream, UPDATE_STEP - 1)
    assert not pair.server.waiting
    pair.server.consumed(stream, 1)
    ours, _ = pair.pump()
    assert ours == [Writable(0), Writable(stream)]


def test_streams_are_bounded_and_in_order() -> None:
    pair = Pair()
    for _ in range(STREAMS_MAX + 1):
        last = pair.client.open(())
    ours, theirs = pair.pump()
    assert len(theirs) == STREAMS_MAX
    assert ours == [Dropped(last, spdy.REFUSED_STREAM)]
    for stream in (last, 2):
        with pytest.raises(SpdyError, match="cannot be opened"):
            pair.server.receive(pair.client._encoder.encode(SynStream(stream)))


def test_data_on_a_stream_that_never_was_is_an_error() -> None:
    with pytest.raises(SpdyError, match="never opened"):
        Connection().receive(Encoder().encode(Data(7, b"x")))


def test_pings_come_back_and_goodbye_is_heard() -> None:
    pair = Pair()
    pair.client.ping()
    pair.pump()
    pair.server.ping()
    pair.pump()
    pair.server.leave()
    pair.server.leave()
    ours, _ = pair.pump()
    assert ours == [Left()]
    refused = pair.client.open(())
    ours, theirs = pair.pump()
    assert (ours, theirs) == ([Dropped(refused, spdy.REFUSED_STREAM)], [])
