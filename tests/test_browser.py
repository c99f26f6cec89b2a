"""What is wrong with a page is found by the browser that other tests open theirs in."""

import pytest


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("<script>console.error('broken')</script>", "broken"),
        ("<script>missing()</script>", "missing is not defined"),
        ("<img src='http://127.0.0.1:9/x.png'>", "http://127.0.0.1:9/x.png"),
        ("<script>fetch('https://example.invalid/').catch(() => 0)</script>", "https://example.invalid/"),
    ],
)
def test_a_page_that_errs_or_asks_others_is_found_out(body, fault, open_page, faults, tmp_path):
    (tmp_path / "page.html").write_text(f"<!doctype html><title>A page</title>{body}")
    page = open_page((tmp_path / "page.html").as_uri())
    page.wait_for_load_state("networkidle")
    assert any(fault in one for one in faults)
    faults.clear()


def test_a_page_that_does_neither_has_no_faults(open_page, tmp_path):
    (tmp_path / "page.html").write_text(
        "<!doctype html><title>A page</title><img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>"
    )
    assert open_page((tmp_path / "page.html").as_uri()).title() == "A page"
