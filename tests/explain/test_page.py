"""The page to explore, as people use it in a browser: with a mouse, with keys, and by what is read out to them."""

import base64
import json

import numpy as np
import pytest
from PIL import Image

from captioner_jax.explain.explained import Alternative, Explained, Grounds
from captioner_jax.explain.page import make_page
from captioner_jax.explain.tree import Branch
from captioner_jax.generation.caption import Caption

HOSTILE = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 1'>&lt;{{script}}\u202e.png"
LAYERS, HEADS, ROWS, COLUMNS = 2, 3, 4, 4


def example(words=("a", "red", "circle", "<end>"), shape=(LAYERS, HEADS), grid=(ROWS, COLUMNS)):
    """Each head of each layer looks, for each word, at a cell of its own."""
    tokens, (layers, heads), cells = len(words), shape, grid[0] * grid[1]
    at = (np.arange(layers * heads * tokens) % cells).reshape(layers, heads, tokens)
    looks = np.eye(cells, dtype=np.float32)[at].reshape(layers, heads, tokens, *grid)
    back = np.tril(np.ones((tokens, tokens), np.float32)) / np.arange(1, tokens + 1, dtype=np.float32)[:, None]
    told = Explained(
        Caption(" ".join(words), -0.5, -1.0),
        list(words),
        np.full(tokens, 0.75, np.float32),
        [[Alternative(word, 0.75), Alternative("other", 0.125)] for word in words],
        looks,
        np.broadcast_to(back, (layers, heads, tokens, tokens)).copy(),
    )
    maps = np.random.default_rng(0).random((tokens, *grid)).astype(np.float32)
    tree = [Branch(word, " ".join(words[: i + 1]), i - 1, i, -0.1 * i, True, False) for i, word in enumerate(words)]
    return told, Grounds(maps, maps, maps, maps - 0.5), [*tree, Branch("blue", "a blue", 0, 1, -3.0, False, True)]


def page_of(told, grounds, tree, name="a photo.jpg", framing="middle"):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8))
    return make_page(picture, name, told, grounds, tree, framing)


@pytest.fixture
def explorer(open_page, tmp_path):
    def opened(html, **screen):
        (tmp_path / "page.html").write_text(html, encoding="utf-8")
        page = open_page((tmp_path / "page.html").as_uri(), **screen)
        page.wait_for_function("document.getElementById('told').textContent")
        return page

    return opened


@pytest.fixture
def page(explorer):
    return explorer(page_of(*example()))


def told(page):
    return page.locator("#told").inner_text()


def test_pointing_at_a_word_shows_where_heads_looked_and_what_else_was_likely(page):
    page.get_by_role("button", name="circle, 75 % likely").hover()
    assert told(page).startswith("“circle”, 75 % likely. Attention of all layers, mean of heads")
    assert page.locator("#alternatives-head").inner_text() == "Considered in place of “circle”"
    assert page.locator("#alternatives").inner_text().split() == ["circle", "75", "%", "other", "13", "%"]
    labels = page.locator("#heads button").evaluate_all("all => all.map(one => one.ariaLabel)")
    assert len(labels) == (LAYERS + 1) * (HEADS + 1)
    # The second head of the first layer looks for the third word at cell 1 * 4 + 2, counted from 0.
    assert labels[1] == "layer 1, head 2: most at row 2, column 3, 100 %"


def test_slider_and_lists_choose_what_is_shown(page):
    page.get_by_role("slider", name="Layer").press("ArrowRight")
    assert "Attention of layer 1, mean of heads" in told(page)
    assert page.get_by_role("slider", name="Layer").get_attribute("aria-valuetext") == "layer 1"
    page.get_by_role("combobox", name="Head").select_option("head 3")
    assert "layer 1, head 3: most at row 3, column 1, 100 % of the map, spread over as much as 1.0 of 16" in told(page)
    page.locator("#heads button").nth(4).click()
    assert "layer 2, head 1: most at row 4, column 1" in told(page)
    assert page.locator("#heads [aria-pressed=true]").count() == 1
    page.get_by_role("combobox", name="Map").select_option("Occlusion")
    assert "Occlusion: most at" in told(page)
    assert page.get_by_role("slider", name="Layer").is_disabled()


@pytest.mark.parametrize("heads", [3, 12])
def test_under_each_column_of_heads_stands_its_number(explorer, heads):
    page = explorer(page_of(*example(shape=(2, heads))))
    labels = page.locator("#heads span")
    assert labels.all_inner_texts() == [
        "layer 1",
        "layer 2",
        "all layers",
        "head",
        *map(str, range(1, heads + 1)),
        "mean",
    ]
    assert not labels.evaluate_all(
        "all => all.filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.innerText)"
    )


def test_pointing_at_a_place_shows_the_words_it_served(page):
    page.locator("#heads button").nth(0).click()  # the first head of the first layer: word t at cell t
    box = page.locator("#picture").bounding_box()
    side = box["height"] / ROWS  # the square in the middle of a wide picture
    page.mouse.move(box["x"] + box["width"] / 2 + 0.5 * side, box["y"] + 0.5 * side)
    assert told(page).startswith("At row 1, column 3: “circle” 100 % of its map")
    shares = page.locator("#caption button").evaluate_all(
        "all => all.map(one => one.style.getPropertyValue('--share'))"
    )
    assert [float(share) > 0 for share in shares] == [False, False, True, False]
    page.mouse.move(box["x"] + 2, box["y"] + 2)  # which the captioner did not see
    assert told(page).startswith("“a”")


def test_of_the_whole_picture_every_place_is_one_that_the_captioner_saw(explorer):
    page = explorer(page_of(*example(), framing="whole"))
    page.locator("#heads button").nth(0).click()
    box = page.locator("#picture").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + 2)
    assert told(page).startswith("At row 1, column 1: “a” 100 % of its map")
    cell = page.locator("#cell").bounding_box()
    for side, count in (("width", COLUMNS), ("height", ROWS)):
        assert cell[side] == pytest.approx(box[side] / count, abs=3)
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + box["height"] - 2)
    assert told(page).startswith("At row 4, column 4")


def test_the_overlay_is_clear_where_the_word_looked_and_dark_elsewhere(page):
    page.locator("#heads button").nth(0).click()
    page.get_by_role("button", name="red, 75 % likely").hover()
    alphas = page.locator("#overlay").evaluate(
        """canvas => [0.5, 1.5, 2.5].map(cell => canvas.getContext("2d").getImageData(
            (canvas.width - canvas.height) / 2 + cell * canvas.height / 4, canvas.height / 8, 1, 1).data[3])"""
    )
    assert alphas[1] < 60 < 150 < min(alphas[0], alphas[2])


def test_everything_can_be_reached_by_keys(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "a"
    page.keyboard.press("ArrowRight")
    assert told(page).startswith("“red”")
    page.keyboard.press("End")
    assert told(page).startswith("“<end>”")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "picture"
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft"):
        page.keyboard.press(key)
    assert told(page).startswith("At row 1, column 1:")
    page.keyboard.press("ArrowRight")
    assert told(page).startswith("At row 1, column 2:")
    page.keyboard.press("Escape")
    assert told(page).startswith("“<end>”")
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.closest('[id]').id"))
    assert reached == ["map", "layer", "head", "heads"]
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    assert "Attention of layer 2, head 3" in told(page)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.locator("#branch").inner_text() == "“a red”, log-probability -0.10, in the caption"
    page.keyboard.press("ArrowDown")
    assert page.locator("#branch").inner_text() == "“a blue”, log-probability -3.00, dropped"


def test_everything_has_a_name_for_those_who_do_not_see_it(page):
    unnamed = page.locator("button, select, input, img, [role]").evaluate_all(
        """all => all.filter(one => !one.hidden && !(one.ariaLabel || one.alt || one.textContent.trim()
            || one.labels?.length || one.role === "status")).map(one => one.outerHTML)"""
    )
    assert unnamed == []
    assert page.locator("[role=status]").count() == 2
    assert page.get_by_role("img").first.get_attribute("alt") == "a photo.jpg, captioned: a red circle <end>"


def test_a_hostile_name_and_caption_are_but_text(explorer):
    page = explorer(page_of(*example(words=("a", HOSTILE, "<!--", "<end>")), name=HOSTILE))
    assert page.locator("#name").inner_text() == HOSTILE
    assert page.locator("#caption button").nth(1).inner_text() == HOSTILE
    assert page.evaluate("window.hit") is None
    assert page.locator("script").count() == 2
    assert page.locator("img").count() == 1


def test_what_is_not_the_pages_own_does_not_run(explorer, faults):
    page = explorer(page_of(*example()).replace("</main>", "</main><script>window.hit = 1</script>"))
    assert page.evaluate("window.hit") is None
    assert "Content Security Policy" in faults.pop()


def test_a_page_without_a_search_has_no_tree(explorer):
    told, grounds, _ = example()
    assert explorer(page_of(told, grounds, [])).locator("#tree").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_by_day_and_by_night(explorer, scheme):
    """Contrast of 4.5 or more, as WCAG 2.2 asks for (success criterion 1.4.3)."""
    page = explorer(page_of(*example()), color_scheme=scheme)
    colours = page.evaluate(
        """() => ["#name", "#meaning", "#told", "#alternatives .written", "#tree .dropped", "h2 small"].map(name => {
            const element = document.querySelector(name), panel = element.closest("section") ?? document.body;
            return [getComputedStyle(element).color, getComputedStyle(panel).backgroundColor]})"""
    )

    def luminance(colour):
        rgb = np.array([int(x) for x in colour.removeprefix("rgb(").removesuffix(")").split(",")]) / 255
        return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    for pair in colours:
        dark, bright = sorted(map(luminance, pair))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5, pair


def test_the_largest_captioner_makes_a_page_under_two_megabytes():
    words = ["word"] * 30
    told, grounds, tree = example(words, shape=(12, 16), grid=(24, 24))
    html = page_of(told, grounds, tree)
    assert len(html.encode()) < 2_000_000
    data = json.loads(html.split('id="data">')[1].split("</script>")[0])
    assert data["grid"] == [12, 12]
    looks = np.frombuffer(base64.b64decode(data["looks"]["bytes"]), np.uint8).reshape(12, 16, 30, 12, 12) / 255
    np.testing.assert_array_equal(looks.sum((-1, -2)), 1)  # a look at one cell is a look at the four that hold it


def test_numbers_come_through_as_bytes():
    told, grounds, tree = example()
    data = json.loads(page_of(told, grounds, tree).split('id="data">')[1].split("</script>")[0])
    packed = data["grounds"]["occlusion"]
    shares = np.frombuffer(base64.b64decode(packed["bytes"]), np.uint8).reshape(4, ROWS, COLUMNS) / 255
    restored = shares * np.array(packed["peaks"])[:, None, None]
    np.testing.assert_allclose(restored, np.maximum(grounds.occlusion, 0), atol=1 / 500)


def unpacked(packed, *shape):
    """Shares of each map's peak, as the page's script reads them."""
    return np.frombuffer(base64.b64decode(packed["bytes"]), np.uint8).reshape(shape) / 255


def data_of(html):
    return json.loads(html.split('id="data">')[1].split("</script>")[0])


def test_what_words_rest_on_has_the_grid_of_where_they_looked_however_coarse():
    told, grounds, tree = example(["word"] * 30, shape=(12, 16), grid=(24, 24))
    data = data_of(page_of(told, grounds, tree))
    assert data["grid"] == [12, 12]
    whole = grounds.rollout.reshape(30, 12, 2, 12, 2).sum((2, 4))
    shares = unpacked(data["grounds"]["rollout"], 30, 12, 12)
    np.testing.assert_allclose(shares, whole / whole.max((1, 2), keepdims=True), atol=1 / 250)


def test_words_look_back_at_words_and_not_the_other_way_round():
    told, grounds, tree = example()
    data, words = data_of(page_of(told, grounds, tree)), len(told.tokens)
    back = unpacked(data["back"], -1, words) * np.array(data["back"]["peaks"])[:, None]
    np.testing.assert_allclose(back.reshape(told.looks_back.shape), told.looks_back, atol=1 / 250)
