"""PEM blocks are found as Go's encoding/pem finds them."""

from __future__ import annotations

from sampan.wire.pem import Block, read_blocks, write_block

LONG = bytes(range(100))


def test_what_is_written_is_read() -> None:
    text = write_block("CERTIFICATE", LONG)
    assert max(map(len, text.splitlines())) == 64
    assert [*read_blocks(text)] == [Block("CERTIFICATE", LONG)]


def test_only_whole_blocks_count() -> None:
    good, other = write_block("A B", b"one"), write_block("C", b"two")
    headed = "-----BEGIN H-----\nKey: value\n\nb25l\n-----END H-----\n"
    text = (
        f"words\n{good}between\r\n{headed}"
        "-----BEGIN X-----\nnot base64!\n-----END X-----\n"
        "-----BEGIN X-----\nb25l\n-----END Y-----\n"
        f"-----BEGIN X-----\n{other.rstrip()}"
    )
    assert [*read_blocks(text)] == [
        Block("A B", b"one"),
        Block("H", b"one", {"Key": "value"}),
        Block("C", b"two"),
    ]


def test_a_text_of_beginnings_is_read_in_one_go() -> None:
    """Each of them could begin a block as long as the text."""
    assert not [*read_blocks("-----BEGIN X-----\n" * 50_000)]
    assert not [*read_blocks("-----BEGIN X-----\n" + "aaaa\n" * 100_000)]
