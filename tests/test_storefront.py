"""The storefront page, in a real browser: against the embedded server with a bundle, and against made-up answers."""

import re
import time

import pytest
from storefront_support import POOR_CONTRAST, WATCH_SHIFTS, Signature, running_browser, stub_server
from test_model_server_support import free_port, running_server

from tfrs_shop.client import ShopClient

WAIT = 60_000
CARDS = "#products > .card[data-id]"
HOSTILE = '<script>window.hacked = 1</script><img src="x" onerror="window.hacked = 2"> &amp; "co"'


@pytest.fixture(scope="module")
def browser():
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def shop_server(bundle, browser):
    # Every signature is built while the version is loaded, which takes long where other tests run beside it.
    flags = [f"--model_base_path={bundle.parent}", "--rest_api_enable_cors_support", "--rest_api_timeout_in_ms=0"]
    with running_server("--model_name=shop", "--storefront", *flags, seconds=400) as server:
        yield f"http://127.0.0.1:{server.rest_port}"


@pytest.fixture
def open_page(browser):
    """Open the page in a context of its own; whatever it writes to the console as an error fails the test."""
    contexts, complaints = [], []

    def opened(address: str, *, width: int = 1440, scheme: str = "light", ready: str = CARDS):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, locale="en-GB")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT)
        page.add_init_script(WATCH_SHIFTS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.locator(ready).first.wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def shop_page(shop_server, open_page):
    return open_page(f"{shop_server}/storefront/")


def shown(page) -> list[str]:
    return page.eval_on_selector_all(CARDS, "cards => cards.map((card) => card.dataset.id)")


def settled(page, said: str) -> None:
    """Wait until the status line says this."""
    # Not by `wait_for_function`: it evaluates text in the page, which the page's policy forbids.
    page.locator("#status", has_text=said).wait_for()


def problem(page) -> str:
    page.locator("#problem").wait_for()
    return page.inner_text("#problem-text")


def test_a_shopper_is_chosen_gets_reasons_and_the_next_recommendations_follow_each_click(shop_page, trained) -> None:
    _, data = trained
    page = shop_page
    page.select_option("#known", index=3)
    user = page.input_value("#known")
    settled(page, f"For {user}: 5 recommendations")
    assert user.encode() in data.users()["user_id"]
    assert re.match(rf"{user}, whose last \d+ events the shop remembers\.", page.inner_text("#who"))
    assert "CATEGORIES" in page.inner_text("#profile").upper()
    reasons = page.locator(f"{CARDS} .reason").all_inner_texts()
    done = "(viewed|looked at|liked|added|bought|searched for|rated|reviewed)"
    assert any(re.match(f"Because you {done} .+|You {done} this before", line) for line in reasons)

    first = page.locator(CARDS).first
    bought, title = first.get_attribute("data-id"), first.locator(".title").inner_text()
    place = data.values["product_id"].index(bought.encode()) + 1
    assert title == data.catalogue.title[place].decode()
    assert first.locator(".price").inner_text() == f"{data.catalogue.price[place]:,.2f}"
    assert data.catalogue.category_name[place].decode().endswith(first.locator(".category").inner_text())

    before = shown(page)
    first.get_by_role("button", name=f"Buy: {title}").click()
    settled(page, f"You bought {title}: 5 recommendations")
    after = shown(page)
    assert bought not in after
    assert len(after) == 5
    assert set(after) != set(before)
    assert page.locator("#history li").first.inner_text().splitlines()[:2] == ["Bought", title]

    page.get_by_role("button", name=f"Forget: Bought {title}").click()
    settled(page, "Forgotten: 5 recommendations")
    assert bought in shown(page)


def test_a_shopper_can_be_invented_by_clicking(shop_page) -> None:
    page = shop_page
    page.get_by_role("button", name="Invent a new shopper").click()
    settled(page, "For somebody new: 5 recommendations")
    assert page.locator("#history").inner_text() == "Nothing yet."
    assert page.locator(f"{CARDS} .reason").all_inner_texts() == [""] * 5
    title = page.locator(f"{CARDS} .title").nth(1).inner_text()
    page.locator(f"{CARDS} .open").nth(1).click()
    settled(page, f"You viewed {title}")
    assert page.inner_text("#viewed-title") == title
    page.locator("#similar .chip").first.wait_for()
    assert f"Because you viewed {title}" in page.locator(f"{CARDS} .reason").all_inner_texts()


def test_search_answers_as_one_types_and_says_what_the_query_is_about(shop_page, trained) -> None:
    _, data = trained
    page = shop_page
    title = data.catalogue.title[7].decode()
    page.get_by_role("searchbox", name="Search the shop").press_sequentially(title[:25], delay=5)
    page.locator("#search-status", has_text="found").wait_for()
    assert title in page.locator("#found .title").all_inner_texts()
    assert page.inner_text("#results-title") == f"Results for “{title[:25].strip()}”"
    # What was asked for is marked, and the title stays what it is.
    own = page.locator("#found .title").filter(has_text=title).first
    assert own.text_content() == title
    assert title.split()[0] in own.locator("mark").all_inner_texts()
    intent = page.locator("#intent li").all_inner_texts()
    assert intent
    assert all(re.fullmatch(r".+\n\d+%", line) for line in intent)
    page.get_by_role("button", name="Close the search").click()
    assert page.locator("#results").is_hidden()


def test_the_slider_asks_for_a_list_of_many_kinds_which_gets_its_reasons(shop_page, shop_server) -> None:
    page = shop_page
    user = page.input_value("#user")
    page.get_by_role("slider", name="Variety").fill("100")
    settled(page, "Variety 100%: 5 recommendations")
    how = {"user_id": [user], "method": ["mmr"], "strength": [1.0], "seed": [1]}
    answer = ShopClient(shop_server).predict({"signature_name": "recommend_diverse", "inputs": how})
    assert shown(page) == answer["outputs"]["product_id"][0]
    page.locator(f"{CARDS} .reason", has_text="Because you").first.wait_for()


def test_everything_can_be_done_with_the_keyboard_and_the_focus_is_seen_and_kept(shop_page) -> None:
    page = shop_page

    def focused() -> str:
        return page.evaluate("document.activeElement.id || document.activeElement.className")

    page.keyboard.press("Tab")
    assert focused() == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert focused() == "recommended"
    page.keyboard.press("Tab")
    assert focused() == "variety"
    page.keyboard.press("ArrowRight")
    settled(page, "Variety 5%")
    page.keyboard.press("ArrowLeft")
    settled(page, "Variety off")
    page.keyboard.press("Tab")
    assert focused() == "open"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    title = page.locator(f"{CARDS} .title").first.inner_text()
    page.keyboard.press("Enter")
    settled(page, f"You viewed {title}")
    assert page.evaluate("document.activeElement.closest('#products') !== null")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    settled(page, "You bought")
    assert page.evaluate("document.activeElement.closest('#recommended') !== null")


@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_moves_by_itself_and_nothing_is_wider_than_the_page(width, shop_server, open_page) -> None:
    page = open_page(f"{shop_server}/storefront/", width=width)
    settled(page, "recommendations")
    page.locator(f"{CARDS} .open").first.click()
    page.locator("#similar .chip").first.wait_for()
    page.fill("#query", "bag")
    page.locator("#found[aria-busy=false]").wait_for()
    time.sleep(0.6)
    wide, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= room <= width
    assert page.evaluate("window.shifted") < 0.1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_is_readable_in_both_colour_schemes(scheme, shop_server, open_page) -> None:
    page = open_page(f"{shop_server}/storefront/", scheme=scheme)
    page.locator(f"{CARDS} .open").first.click()
    page.locator("#similar .chip").first.wait_for()
    page.fill("#query", "bag")
    page.locator("#found[aria-busy=false]").wait_for()
    page.evaluate("document.getElementById('problem').hidden = false")
    found = page.evaluate(POOR_CONTRAST)
    assert found["checked"] > 60
    assert found["poor"] == []
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 20, 18)"
    assert dark == (scheme == "dark")


def test_every_control_and_landmark_has_a_name(shop_page) -> None:
    page = shop_page
    page.locator(f"{CARDS} .open").first.click()
    page.locator("#similar .chip").first.wait_for()
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "link", "searchbox", "textbox", "combobox", "slider", "listbox")
    controls = [
        (node["role"]["value"], node["name"]["value"].strip())
        for node in tree
        if not node.get("ignored") and node["role"]["value"] in roles
    ]
    assert len(controls) > 20
    assert [role for role, name in controls if not name] == []
    landmarks = {node["role"]["value"] for node in tree if not node.get("ignored")}
    assert {"banner", "search", "main", "complementary", "status"} <= landmarks
    assert page.evaluate("document.documentElement.lang") == "en"


def one_product(title: str, reason_id: str = "P0") -> dict[str, Signature]:
    """A shop of one product, whose every text is `title`; it is recommended because of `reason_id`."""
    answer = {"product_id": [["P1"]], "score": [[0.5]], "title": [[title]]}
    history = ("history_product_id", "history_event_type")
    products = ("product_id", "score", "title")
    explained = {**answer, "because_product_id": [[reason_id]], "because_title": [[title]]}
    because = ("because_product_id", "because_title")
    details = {"title": [title], "category": [title], "brand": [title], "price": [-1.0]}
    users = {"user_id": [[title]], "product_count": [[1]]}
    events = {"product_id": [["P1"]], "event_type": [["view"]], "title": [[title]]}
    intent = {"category": [[title]], "category_probability": [[0.9]]}
    # Padded, as the longest title of an answer says.
    words = {"title_word": [[[*title.split(), ""]]], "title_word_weight": [[[1.0] * len(title.split()) + [0.0]]]}
    return {
        "serving_default": Signature(("user_id",), products, lambda _: answer),
        "recommend_explained": Signature(("user_id",), (*products, *because), lambda _: explained),
        "recommend_for_history_explained": Signature(history, (*products, *because), lambda _: explained),
        "product_details": Signature(("product_id",), tuple(details), lambda _: details),
        "example_users": Signature(("seed",), tuple(users), lambda _: users),
        "user_history": Signature(("user_id",), tuple(events), lambda _: events),
        "similar": Signature(("product_id",), products, lambda _: answer),
        "search": Signature(("query",), products, lambda _: answer),
        "search_explained": Signature(("query",), (*products, *words), lambda _: {**answer, **words}),
        "query_intent": Signature(("query",), tuple(intent), lambda _: intent),
    }


def test_a_product_that_is_its_own_reason_was_met_before(open_page) -> None:
    with stub_server(one_product("A lamp", reason_id="P1")) as origin:
        page = open_page(f"{origin}/storefront/")
        settled(page, "1 recommendations")
        assert page.locator(f"{CARDS} .reason").first.text_content() == "You viewed this before"


def test_markup_in_the_shops_texts_is_shown_as_it_is_written_and_never_runs(open_page) -> None:
    with stub_server(one_product(HOSTILE)) as origin:
        page = open_page(f"{origin}/storefront/")
        settled(page, "1 recommendations")
        page.locator(f"{CARDS} .open").first.click()
        page.locator("#similar .chip").first.wait_for()
        page.fill("#query", HOSTILE)
        page.locator("#found .card[data-id]").first.wait_for()
        page.locator("#intent li").first.wait_for()
        assert page.locator("#found .title").first.text_content() == HOSTILE
        assert page.locator("#found .title mark").all_text_contents() == HOSTILE.split()
        assert page.locator(f"{CARDS} .title").first.text_content() == HOSTILE
        assert page.locator(f"{CARDS} .reason").first.text_content() == f"Because you met {HOSTILE}"
        assert page.inner_text("#viewed-title") == HOSTILE
        assert page.locator("#history .what").first.text_content() == HOSTILE
        assert page.locator("#known option").last.text_content() == f"{HOSTILE}, 1 products met"
        assert page.evaluate("window.hacked") is None
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 1
        # Not even a mistake of ours could run it: the page's policy takes no markup from a script.
        with pytest.raises(Exception, match="TrustedHTML"):
            page.evaluate("document.body.innerHTML = '<b>x</b>'")


def test_what_the_bundle_cannot_answer_is_not_on_the_page(open_page) -> None:
    only = {"serving_default": one_product("Lamp")["serving_default"]}
    with stub_server(only) as origin:
        page = open_page(f"{origin}/storefront/?user=U1")
        settled(page, "For U1: 1 recommendations.")
        for part in ("search", "variety", "known", "profile", "next"):
            assert page.locator(f"#{part}").is_hidden(), part
        assert page.locator("#user").is_visible()
        assert page.locator("#problem").is_hidden()


def test_an_answer_that_comes_late_does_not_replace_a_newer_one(open_page) -> None:
    def found(inputs):
        query = inputs["query"][0]
        return {"product_id": [[query]], "score": [[1.0]], "title": [[f"Product {query}"]]}

    slow = Signature(
        ("query",), ("product_id", "score", "title"), found, lambda inputs: 0.8 * (inputs["query"] == ["r"])
    )
    signatures = {"serving_default": one_product("Lamp")["serving_default"], "search": slow}
    with stub_server(signatures) as origin:
        page = open_page(f"{origin}/storefront/")
        with page.expect_request(lambda request: '"r"' in (request.post_data or "")):
            page.fill("#query", "r")
        page.fill("#query", "ru")
        page.locator("#found .title", has_text="Product ru").wait_for()
        time.sleep(0.9)
        assert page.locator("#found .title").all_inner_texts() == ["Product ru"]


def test_the_page_says_in_one_sentence_what_is_wrong_and_how_to_mend_it(shop_server, open_page) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    said = "#problem-text"
    with stub_server(one_product("Lamp")) as stub:
        page = open_page(f"{shop_server}/storefront/?server={away}", ready=said)
        assert problem(page).startswith(
            f"No server answers at {away}: start one there with “tfrs-shop serve --model_name"
        )
        page = open_page(f"{shop_server}/storefront/?model=hats", ready=said)
        assert problem(page) == (
            f"The server at {shop_server} has no model “hats”: give the name that the server was started with "
            "(--model_name)."
        )
        page = open_page(f"{shop_server}/storefront/?server={stub}", ready=said)
        assert problem(page) == (
            f"The server at {stub} forbids pages of {shop_server} to read its answers (CORS): start it with "
            "--rest_api_enable_cors_support, or open the page from the server itself."
        )
        page = open_page(f"{shop_server}/storefront/?server=ftp://shop", ready=said)
        assert problem(page) == "“ftp://shop” is no address of a server: give it as http://HOST:PORT."
        # What the page offers then leads out of it; the embedded server lets other origins in when it is told to.
        page.goto(f"{stub}/storefront/?server={away}")
        page.get_by_role("textbox", name="Server").fill(shop_server)
        page.get_by_role("button", name="Connect").click()
        page.locator(CARDS).first.wait_for()
        assert page.locator("#served-by").inner_text() == "Model shop, version 1"
        assert page.url.startswith(stub)


def test_a_server_that_goes_away_is_named_when_it_is_missed(open_page) -> None:
    with stub_server(one_product("Lamp")) as origin:
        page = open_page(f"{origin}/storefront/")
    page.locator(f"{CARDS} .open").first.click()
    assert problem(page).startswith(f"No server answers at {origin}")
