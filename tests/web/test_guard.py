"""No page of a stranger's gets an answer, under whatever name."""

import pytest

from captioner_jax.web.guard import stranger


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8000", "localhost", "LOCALHOST:80", "[::1]:8000", "192.168.1.5:8000", "studio.local:1"],
)
def test_its_own_page_may_ask(host):
    assert stranger(host, None, "Studio.local") is None
    assert stranger(host, f"http://{host}", "Studio.local") is None
    assert stranger(host, f"https://{host}", "Studio.local") is None


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "notlocalhost"),
        *(
            "",
            ":8000",
            "[",
            "[::1",
            "127.0.0.1@evil.example",
            "127.0.0.1/.evil.example",
            "evil.example@127.0.0.1",
            "1.2.3",
        ),
    ],
)
def test_a_stranger_by_name_may_not(host):
    assert "this page is not at" in stranger(host, None, "studio.local")
    assert "this page is not at" in stranger(host, f"http://{host}", "studio.local")


@pytest.mark.parametrize(
    "origin",
    [
        *("null", "", "http://evil.example", "http://127.0.0.1", "http://127.0.0.1:9000", "http://localhost:8000"),
        *("http://127.0.0.1:8000.evil.example", "file://", "ftp://127.0.0.1:8000"),
    ],
)
def test_a_stranger_from_elsewhere_may_not(origin):
    assert "may not ask here" in stranger("127.0.0.1:8000", origin, "127.0.0.1")
