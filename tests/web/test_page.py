"""The page in a browser: pictures come in by three ways, what is said of them is shown, whoever looks."""

import base64
import re

import numpy as np
import pytest
from PIL import Image

from captioner_jax.captioning import Caption, Captioner, Written
from captioner_jax.web import app
from tests.data.making import encoded, picture
from tests.making import untrained
from tests.web.serving import served

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8))
PNG = encoded(NOISE)
# Gives the document files, as dropping or pasting does.
GIVE = """([kind, name, type, data]) => {
  const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  if (name) transfer.items.add(new File([bytes], name, { type }));
  const made = kind === "drop" ? new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true })
                               : new ClipboardEvent(kind, { clipboardData: transfer, bubbles: true });
  document.body.dispatchEvent(made);
  return made.defaultPrevented;
}"""
# How dark the map lies over the corners of the picture, where of 2 x 2 cells there is one each.
DARKNESS = """() => {
  const { width, height } = document.getElementById("map");
  const pixel = (x, y) => document.getElementById("map").getContext("2d").getImageData(x, y, 1, 1).data[3];
  return [[pixel(0, 0), pixel(width - 1, 0)], [pixel(0, height - 1), pixel(width - 1, height - 1)]];
}"""


class Markup(Captioner):
    """Says what browsers would run, were it not for text. An ensemble, by its bundles."""

    def __init__(self):
        self.bundles, self.framing = ("one", "another"), "middle"

    def written(self, picture, asked):
        said = [Caption("<img src=x onerror=alert(1)>", -1.0, -2.0), Caption("<b>bold</b>", -2.0, -3.0)]
        return Written(np.zeros((1, 8, 8, 3), np.uint8), np.zeros(3, np.int32), [], said)


@pytest.fixture(scope="module")
def captioner():
    return Captioner(untrained())


@pytest.fixture(scope="module")
def address(captioner):
    with served(captioner) as port:
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def page(address, open_page):
    return open_page(address)


def choose(page, data=PNG, name="noise.png", mime="image/png"):
    page.set_input_files("#file", {"name": name, "mimeType": mime, "buffer": data})
    page.wait_for_selector("#result:not([aria-busy=true])", state="attached")


def captions(page):
    return page.locator("#captions td:first-child").all_inner_texts()


def test_a_chosen_picture_is_captioned_and_explained(page, captioner):
    choose(page)
    (said,) = captioner.captions([PNG], num_captions=5)
    assert captions(page) == [caption.text for caption in said]
    assert page.locator("#captions td:nth-child(2)").all_inner_texts() == [f"{caption.score:.2f}" for caption in said]
    assert page.locator("#words button").all_inner_texts() == captioner.explain(PNG).tokens
    assert page.get_by_alt_text(said[0].text).is_visible()
    assert page.inner_text("#name") == "noise.png"
    assert re.fullmatch(r"Captioned in \d+\.\d\d s\.", page.inner_text("#status"))


def test_the_map_is_dark_where_the_captioner_did_not_look(page, captioner):
    choose(page)
    looks = captioner.explain(PNG).looks  # [L N T 2 2]

    def shown(looks):
        darkness = 190 * (1 - looks / looks.max())
        assert darkness.max() > 20
        return np.abs(page.evaluate(DARKNESS) - darkness).max() < 2

    assert shown(looks[-1].mean(0)[0])
    page.locator("#words button").nth(3).hover()
    assert shown(looks[-1].mean(0)[3])
    page.get_by_label("Layer").select_option(label="1")
    page.get_by_label("Head").select_option(label="2")
    assert shown(looks[0, 1, 3])
    page.mouse.move(0, 0)
    choose(page)  # what was chosen stays
    assert shown(looks[0, 1, 0])


@pytest.mark.parametrize("size", [(90, 60), (40, 400), (16, 16)])
def test_the_map_lies_over_the_middle_square_that_the_captioner_sees(size, page):
    choose(page, encoded(NOISE.resize(size)))
    page.evaluate("document.getElementById('picture').decode()")
    shown, map = (page.locator(part).bounding_box() for part in ("#picture", "#map"))
    assert shown["width"] / shown["height"] == pytest.approx(size[0] / size[1], rel=0.02)
    assert map["width"] == pytest.approx(min(shown["width"], shown["height"]), abs=1)
    assert map["height"] == pytest.approx(map["width"], abs=1)
    for at, side in (("x", "width"), ("y", "height")):
        assert map[at] + map[side] / 2 == pytest.approx(shown[at] + shown[side] / 2, abs=1)


def test_of_a_captioner_that_sees_the_whole_the_map_lies_over_all_of_the_picture(open_page):
    with served(Captioner(untrained(framing="whole"))) as port:
        page = open_page(f"http://127.0.0.1:{port}/")
        choose(page)
        page.evaluate("document.getElementById('picture').decode()")
        shown, map = (page.locator(part).bounding_box() for part in ("#picture", "#map"))
    assert shown["width"] / shown["height"] == pytest.approx(1.5, rel=0.02)
    for side in shown:
        assert map[side] == pytest.approx(shown[side], abs=1)


def test_words_are_reached_by_keyboard_and_told_to_those_who_do_not_see(page, captioner):
    explained = captioner.explain(PNG)
    choose(page)
    page.locator("#words button").first.focus()
    for _ in range(len(explained.tokens) - 1):
        page.keyboard.press("Tab")
    told = page.get_by_role("status").filter(has_text="probability")
    assert told.inner_text().startswith(
        f"“<end>”: probability {100 * explained.probabilities[-1]:.1f} %, looked at most: "
    )
    most = explained.looks[-1].mean(0)[-1].argmax()
    assert told.inner_text().endswith(["top left", "top right", "bottom left", "bottom right"][most])
    assert page.get_by_role("button", pressed=True).inner_text() == "<end>"
    page.get_by_label("Show on the picture").uncheck()
    assert not page.locator("#map").is_visible()


def test_the_file_is_chosen_by_keyboard(page):
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Tab")
        page.wait_for_selector("#file:focus", state="attached")
        page.keyboard.press("Space")
    chooser.value.set_files({"name": "noise.png", "mimeType": "image/png", "buffer": PNG})
    page.wait_for_selector("#captions td")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_may_be_dropped_and_pasted(way, page):
    assert page.evaluate(GIVE, [way, "mine", "", base64.b64encode(PNG).decode()]) == (way == "drop")
    page.wait_for_selector("#captions td")
    assert page.inner_text("#name") == "mine"


def test_what_is_dropped_and_is_no_file_is_said(page):
    assert page.evaluate(GIVE, ["drop", "", "", ""])  # the browser does not go there
    assert page.get_by_role("alert").inner_text() == "There is no picture in that."


@pytest.mark.parametrize(
    ("name", "mime", "data", "status", "message"),
    [
        ("a.jpg", "image/jpeg", b"no picture", 422, "a.jpg: not an image, or of a kind that Pillow cannot read"),
        ("a.png", "image/png", PNG[:900], 422, "a.png: the image is damaged"),
        ("film.mp4", "video/mp4", bytes(3 * 10**6), 415, "film.mp4: this is no picture: video/mp4"),
        ("a.png", "image/png", b"", 422, "a.png: the file is empty"),
    ],
)
def test_what_is_no_picture_is_said(name, mime, data, status, message, page, faults):
    choose(page)
    choose(page, data, name, mime)
    assert page.get_by_role("alert").inner_text().startswith(message)
    assert not page.locator("#result").is_visible()
    assert str(status) in faults.pop()  # Chromium logs each answer that is an error
    choose(page)
    assert page.locator("#result").is_visible()
    assert page.get_by_role("alert").inner_text() == ""


def test_a_large_file_is_not_even_sent(page, captioner, open_page, monkeypatch):
    monkeypatch.setattr(app, "LARGEST", 2**20)
    page.reload()
    page.on("request", lambda request: pytest.fail(request.url) if request.method == "POST" else None)
    choose(page, bytes(2**20 + 1), "large.png")
    assert page.get_by_role("alert").inner_text() == "large.png has more than 1 MiB."


def test_a_picture_that_browsers_do_not_show_is_captioned(page):
    choose(page, encoded(NOISE, "TIFF"), "old.tif", "image/tiff")
    page.wait_for_selector("#name:text('cannot show')")
    assert len(captions(page)) == 5


def test_settings_change_what_is_said(page, captioner, faults):
    choose(page)
    page.get_by_label("Captions", exact=True).fill("2")
    page.get_by_label("Temperature").fill("0.7")
    page.get_by_label("Seed").fill("3")
    page.get_by_label("Beam").focus()
    page.wait_for_selector("#captions tr:nth-child(3)", state="detached")
    (drawn,) = captioner.captions([PNG], num_captions=2, temperature=0.7, seed=3)
    assert captions(page) == [caption.text for caption in drawn]
    page.get_by_label("Temperature").fill("")
    page.get_by_label("Captions", exact=True).fill("7")
    page.get_by_label("Captions", exact=True).blur()
    page.wait_for_selector("#captions tr:nth-child(5)")
    (likeliest,) = captioner.captions([PNG], num_captions=5)
    assert captions(page) == [caption.text for caption in likeliest]


def test_names_and_captions_are_text_whatever_they_hold(open_page):
    with served(Markup()) as port:
        page = open_page(f"http://127.0.0.1:{port}/")
        choose(page, encoded(picture()), "<img src=x onerror=alert(1)>.png")
        assert page.inner_text("#name") == "<img src=x onerror=alert(1)>.png"
        assert captions(page) == ["<img src=x onerror=alert(1)>", "<b>bold</b>"]
        assert page.locator("img").count() == 1
        assert not page.locator("#looking").is_visible()  # an ensemble has no looks


def test_the_browser_lets_nothing_out(page, faults):
    refused = page.evaluate("fetch('https://example.invalid/').catch(() => 'refused')")
    assert refused == "refused"
    assert all("Content Security Policy" in one for one in faults)
    assert faults
    faults.clear()


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(colours, address, open_page):
    page = open_page(address, viewport={"width": 320, "height": 640}, color_scheme=colours)
    choose(page, name="a name without an end " * 9 + "x" * 200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert contrast(ink, paper) > 7
    assert contrast(page.evaluate("getComputedStyle(document.getElementById('told')).color"), paper) > 4.5
    assert contrast(page.evaluate("getComputedStyle(document.getElementById('error')).color"), paper) > 4.5


def contrast(one, other):
    """WCAG 2's ratio of two colours, rgb(...) each."""

    def luminance(colour):
        share = np.array([int(number) for number in re.findall(r"\d+", colour)[:3]]) / 255
        return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    dark, light = sorted([luminance(one), luminance(other)])
    return (light + 0.05) / (dark + 0.05)
