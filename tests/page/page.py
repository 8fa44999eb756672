"""The page in a real Chromium: `page.py BASE EXPECTED`, where EXPECTED is a JSON object with the figures of `tests/whole/page.rs`. Each check prints a line; the first that
fails ends it with 1. `page.py BASE --screenshots FOLDER` takes pictures instead."""

import http.server
import json
import os
import re
import shutil
import sys
import threading
import urllib.request

from playwright.sync_api import expect, sync_playwright

BASE = sys.argv[1]
PATIENCE = 15_000
VIEWS = ["#/", "#/gateways", "#/listeners", "#/routes", "#/services", "#/plugins", "#/plugin/mine", "#/faults", "#/explain", "#/service/default/web/80/TCP"]
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
# Root, as which tests run in containers, has no sandbox. Nothing but loopback is ever resolved.
ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"]
WATCH = """
window.violations = [];
document.addEventListener('securitypolicyviolation', (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
# The contrast of every text that is seen, as WCAG 2.2 (1.4.3) counts it.
CONTRAST = """
() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const rgba = (color) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)).reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => { for (let e = element; e; e = e.parentElement) { const color = rgba(getComputedStyle(e).backgroundColor); if (color[3] === 255) return color; } return [255, 255, 255, 255]; };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) || element.closest('[aria-disabled], :disabled')) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${walker.currentNode.data.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}
"""
FOCUS = "() => { const e = document.activeElement, s = getComputedStyle(e); return { tag: e.tagName, text: e.textContent.trim().slice(0, 40), shown: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2 }; }"


class Watched:
    """A page of which everything is noted that it must not do."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(**options)
        self.context.add_init_script(WATCH)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.wrong, self.requests, self.allowed = [], [], ()
        self.page.on("console", self.noted)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def noted(self, message):
        # A gateway that knows no logins does not know this question either.
        if message.type in ("error", "warning") and not message.location["url"].endswith("/whoami"):
            self.wrong.append(f"console: {message.text}")

    def go(self, path):
        self.page.goto(f"{BASE}/{path}")
        # A page that is there already only changes its view.
        self.page.wait_for_function("() => document.querySelector('main > *') && !document.querySelector('main[aria-busy]') && document.body.dataset.state !== 'asking'")

    def close(self):
        outside = [url for url in self.requests if not url.startswith(BASE + "/")]
        violations = self.page.evaluate("window.violations ?? []")
        wrong = [text for text in self.wrong if not any(allowed in text for allowed in self.allowed)]
        self.context.close()
        assert not outside, f"requests elsewhere: {outside}"
        assert not violations, f"violations of the content security policy: {violations}"
        assert not wrong, wrong


def tab_to(page, wanted, most=80):
    """Presses Tab until the focus is on an element with this text; every stop must show that it has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        if focus["tag"] == "BODY":
            continue
        assert focus["shown"], f"nobody sees that this has the focus: {focus}"
        if wanted in focus["text"]:
            return
    raise AssertionError(f"Tab does not lead to {wanted!r}")


def number(text):
    return float(re.sub(r"[^0-9.]", "", text) or 0)


def ready():
    try:
        return urllib.request.urlopen(f"{BASE}/readyz").status
    except urllib.error.HTTPError as error:
        return error.code


def overview(browser, expected):
    watched = Watched(browser, viewport={"width": 1280, "height": 860})
    page = watched.page
    watched.go("#/")
    requests = page.locator(".tile").first.locator(".value")
    page.wait_for_function("() => parseFloat(document.querySelector('.tile .value').textContent) > 1")
    seen = set()
    for _ in range(60):
        seen.add(page.locator(".tile .pairs").inner_text())
        if len(seen) >= 3:
            break
        page.wait_for_timeout(250)
    assert len(seen) >= 3, f"the figures stand still: {seen}"
    assert number(requests.inner_text()) > 1
    streams = [url for url in watched.requests if "/api/v1/live" in url]
    assert len(streams) == 1, f"a stream is opened once: {streams}"
    for text in ["default/web:80", "default/edge: web", expected["endpoint"]]:
        expect(page.locator(".node", has_text=text).first).to_be_visible()
    assert page.locator(".links .moves").count() > 0, "something flows"
    expect(page.locator(".attention")).to_contain_text(expected["fault"])
    watched.close()


def lists(browser, expected):
    watched = Watched(browser, viewport={"width": 1280, "height": 860})
    page = watched.page
    watched.go("#/services")
    expect(page.locator("tbody tr")).to_have_count(50)
    expect(page.locator(".found")).to_have_text(f"1–50 of {expected['ports']}")
    page.get_by_role("button", name="Next").click()
    expect(page.locator(".found")).to_have_text(f"51–{expected['ports']} of {expected['ports']}")
    page.keyboard.press("/")
    page.keyboard.type("many-0")
    expect(page.locator(".found")).to_contain_text("10 found")
    assert page.evaluate("location.hash") == "#/services?q=many-0", page.evaluate("location.hash")
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(10)
    page.get_by_label("Search").fill("nothing like this")
    expect(page.locator(".empty:visible")).to_contain_text("None of")
    page.get_by_label("Search").fill("")
    page.get_by_role("button", name="Rate /s").click()
    expect(page.locator("tbody tr").first).to_contain_text("default/web")
    expect(page.get_by_role("columnheader", name="Rate /s")).to_have_attribute("aria-sort", "descending")
    page.locator("tbody tr a").first.click()
    expect(page.get_by_role("heading", name="default/web")).to_be_visible()
    expect(page.locator("tbody tr", has_text=expected["endpoint"])).to_contain_text("ready")
    watched.go("#/gateways")
    expect(page.locator("tbody tr")).to_contain_text("default/edge")
    watched.go("#/listeners?q=edge")
    expect(page.locator("tbody tr", has_text="listener web of Gateway")).to_be_visible()
    watched.close()


def hostile(browser, expected):
    watched = Watched(browser, viewport={"width": 1280, "height": 860})
    page = watched.page
    for view, text in [("#/routes", expected["hostile"]), ("#/faults", expected["hostileFault"])]:
        watched.go(view)
        expect(page.locator("tbody")).to_contain_text(text)
        assert page.locator("main img, main script, main b").count() == 0, "text became markup"
        assert "owned" not in page.title()
    hidden = page.evaluate("() => /[\\u202a-\\u202e\\u2066-\\u2069\\u200b-\\u200f\\u0000-\\u0008\\u000b-\\u001f]/.test(document.body.textContent)")
    assert not hidden, "something is shown that nobody sees"
    watched.close()


def keyboard(browser, expected):
    watched = Watched(browser, viewport={"width": 1280, "height": 860})
    page = watched.page
    watched.go("#/plugin/mine")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUS)["text"] == "Skip to the content"
    box = page.locator(".skip").bounding_box()
    assert box["y"] >= 0, "the link that has the focus is seen"
    tab_to(page, "Roll back…")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate(FOCUS)["text"] == "Cancel", "the focus begins where nothing happens"
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.evaluate(FOCUS)["text"] == "Roll back…", "the focus comes back"
    assert not [url for url in watched.requests if url.endswith("/rollback")], "nothing was ordered"
    page.keyboard.press("Enter")
    tab_to(page, "Roll back", 3)
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("generation 1 serves")
    expect(page.locator("tbody tr").first).to_contain_text("rolled back")
    expect(page.locator(".lead .mark")).to_contain_text("degraded")
    expect(page.get_by_role("button", name="Roll back…")).to_have_attribute("aria-disabled", "true")
    watched.close()


def orders(browser, expected):
    watched = Watched(browser, viewport={"width": 1280, "height": 860})
    page = watched.page
    watched.go("#/plugin/mine")
    page.get_by_role("button", name="Reload…").click()
    page.get_by_role("dialog").get_by_role("button", name="Reload").click()
    expect(page.locator(".lead .mark")).to_contain_text("active")
    page.get_by_role("button", name="Drain…").click()
    page.get_by_role("dialog").get_by_role("button", name="Drain").click()
    expect(page.locator("#state")).to_contain_text("Drained")
    assert ready() == 503
    page.get_by_role("button", name="Resume…").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.locator("#state")).to_contain_text("Serving")
    assert ready() == 200
    # What the gateway refuses is said in the dialog.
    page.route("**/plugins/mine/disable", lambda route: route.fulfill(status=409, body="plugin mine: another order is carried out"))
    page.get_by_role("button", name="Disable…").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("another order is carried out")
    watched.allowed = ("409",)
    watched.close()


def explain(browser, expected):
    watched = Watched(browser, viewport={"width": 1280, "height": 860})
    page = watched.page
    watched.go("#/explain")
    page.get_by_label("URL or path").fill("http://shop.example/api/x")
    page.get_by_label("Port").fill(str(expected["port"]))
    page.keyboard.press("Enter")
    story = page.get_by_role("region", name="Explanation")
    for text in ["listener web of Gateway default/edge", "default/web:80", f"endpoint {expected['endpoint']}"]:
        expect(story).to_contain_text(text)
    page.get_by_label("URL or path").fill("http://other.example/")
    page.get_by_role("button", name="Explain").click()
    expect(story).to_contain_text("404")
    watched.close()


def windows(browser, expected):
    grounds = set()
    for scheme, width in [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)]:
        watched = Watched(browser, viewport={"width": width, "height": 740}, color_scheme=scheme, reduced_motion="reduce")
        page = watched.page
        for view in VIEWS:
            watched.go(view)
            page.wait_for_timeout(100)
            overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert overflow <= 0, f"{view} is {overflow} pixels wider than {width}"
            poor = page.evaluate(CONTRAST)
            assert not poor, f"{view}, {scheme}, {width}: hard to read: {poor}"
        moving = page.evaluate("() => [...document.querySelectorAll('*')].filter((e) => parseFloat(getComputedStyle(e).transitionDuration) > 0.01).length")
        assert moving == 0, "nothing moves for those who do not want it"
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        watched.close()
    assert len(grounds) == 2, grounds


def logins(browser, expected):
    watched = Watched(browser, viewport={"width": 1280, "height": 860})
    page = watched.page
    asked = []

    def who(route):
        asked.append(route.request.headers.get("authorization"))
        if asked[-1] == "Bearer secret":
            route.fulfill(json={"role": "viewer", "name": "anna"})
        else:
            route.fulfill(status=401, body="a token is wanted")

    page.route("**/api/v1/whoami", who)
    page.goto(f"{BASE}/#/plugin/mine")
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not known")
    page.get_by_label("Token").fill("secret")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Roll back…")).to_have_attribute("aria-disabled", "true")
    expect(page.get_by_role("button", name="Drain…")).to_have_attribute("aria-disabled", "true")
    expect(page.locator("#tools")).to_contain_text("anna, viewer")
    assert asked == [None, "Bearer wrong", "Bearer secret"], asked
    page.get_by_role("button", name="Reload…").click(force=True)
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    watched.allowed = ("401", "404")
    watched.close()


def others(browser, expected):
    """A page of another origin, on the same machine."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>other</title>")

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.server_port}/")
    outcome = page.evaluate(
        """async (base) => {
          const tried = async (path, options) => { try { const r = await fetch(base + path, options); return r.type === 'opaque' ? 'sent' : r.status; } catch { return 'refused'; } };
          return [await tried('/api/v1/services', {}), await tried('/api/v1/drain', { method: 'POST', headers: { 'x-sluicegate-request': '1' } }),
                  await tried('/api/v1/drain', { method: 'POST', mode: 'no-cors' })];
        }""",
        BASE,
    )
    assert outcome == ["refused"] * 3, outcome
    assert ready() == 200, "what was sent has drained nothing"
    page.set_content(f"<iframe src='{BASE}/'></iframe>")
    page.wait_for_timeout(300)
    assert not any(frame.locator("main h1").count() for frame in page.frames[1:]), "the page stands in a frame"
    context.close()
    server.shutdown()


def screenshots(browser, folder):
    for name, view, scheme, width, height in [
        ("overview-light", "#/", "light", 1280, 880), ("plugin-dark", sys.argv[4] if len(sys.argv) > 4 else "#/plugin/mine", "dark", 1280, 820), ("narrow", "#/services", "light", 390, 760),
    ]:
        watched = Watched(browser, viewport={"width": width, "height": height}, color_scheme=scheme)
        watched.go(view)
        watched.page.wait_for_timeout(15_000)
        watched.page.screenshot(path=os.path.join(folder, f"{name}.png"))
        watched.close()


def main():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        if sys.argv[2] == "--screenshots":
            return screenshots(browser, sys.argv[3])
        expected = json.loads(sys.argv[2])
        for check in [overview, lists, hostile, windows, keyboard, orders, explain, logins, others]:
            check(browser, expected)
            print(f"{check.__name__}: well", flush=True)
        browser.close()


main()
