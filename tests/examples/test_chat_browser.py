"""The chat's page in a real Chromium: two tabs that talk, and what must not happen to them.

Screenshots go to tests/artifacts/.
"""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from examples.chat import tokens
from tests.conftest import require
from tests.examples.chat_server import ROOT, ChatServer
from tests.examples.redis_server import RedisServer

pytestmark = pytest.mark.timeout(180)

ARTIFACTS = ROOT / "tests" / "artifacts"
INSTALL = "apt-get install chromium chromium-driver"


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    require("chromium and chromedriver", chromium and chromedriver, INSTALL)
    options = webdriver.ChromeOptions()
    options.binary_location = str(chromium)
    for option in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--window-size=1000,760",
        f"--user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=chromedriver)
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer("--rate", "1e6") as server:
        yield server


@pytest.fixture
def open_tab(driver: Any, server: ChatServer) -> Iterator[Callable[..., Tab]]:
    home = driver.current_window_handle

    def open_tab(name: str, channel: str = "lobby", *, join: bool = True, query: str = "") -> Tab:
        tab = Tab(driver, server, query)
        if join:
            tab.join(name, channel)
        return tab

    yield open_tab
    for handle in set(driver.window_handles) - {home}:
        driver.switch_to.window(handle)
        driver.close()
    driver.switch_to.window(home)


class Tab:
    """One tab. Its methods bring it to the front first."""

    def __init__(self, driver: Any, server: ChatServer, query: str = "") -> None:
        self.driver = driver
        self.url = server.url
        driver.switch_to.new_window("tab")
        self.handle = driver.current_window_handle
        driver.set_window_size(1000, 760)
        driver.get(f"{server.url}/{query}")

    def front(self) -> Any:
        if self.driver.current_window_handle != self.handle:
            self.driver.switch_to.window(self.handle)
        return self.driver

    def get(self, element_id: str) -> WebElement:
        found: WebElement = self.front().find_element(By.ID, element_id)
        return found

    def fill(self, element_id: str, value: str) -> None:
        # Chromium's driver can't type beyond U+FFFF; what counts is what the page does with it.
        script = "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))"
        self.front().execute_script(script, self.get(element_id), value)

    def join(self, name: str, channel: str) -> None:
        self.fill("nickname", name)
        self.fill("channel", channel)
        self.get("channel").send_keys(Keys.ENTER)
        self.until(lambda: self.state() == "live")

    def state(self) -> str | None:
        return self.get("state").get_attribute("data-state")

    def say(self, msg: str) -> None:
        """Post a message, and see it acknowledged."""
        count = len(self.messages())
        self.get("text").send_keys(msg, Keys.ENTER)
        self.until(lambda: len(self.messages()) > count and not self.sending())

    def sending(self) -> int:
        return len(self.front().find_elements(By.CSS_SELECTOR, "#log .sending"))

    def texts(self, selector: str) -> list[str]:
        return [each.strip() for each in self._all(selector, "textContent")]

    def _all(self, selector: str, name: str) -> list[str]:
        # In one step: the page may put another element in an element's place at any moment.
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e[arguments[1]])"
        found: list[str] = self.front().execute_script(script, selector, name)
        return found

    def messages(self) -> list[str]:
        return self._all("#log .content", "textContent")

    def until(self, holds: Callable[[], object]) -> None:
        WebDriverWait(self.driver, 20, poll_frequency=0.05).until(lambda _: holds())

    def sees(self, msg: str) -> None:
        self.until(lambda: msg in self.messages())

    def screenshot(self, name: str) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        self.front().save_screenshot(str(ARTIFACTS / f"chat-{name}.png"))

    def console(self) -> list[str]:
        """What the page complained about: scripts that failed, what the policy stopped."""
        # The log is the browser's; an earlier test's server had another port.
        said = [each["message"] for each in self.front().get_log("browser")]
        return [message for message in said if self.url in message]


OpenTab = Callable[..., Tab]


@pytest.mark.parametrize("transport", ["", "events", "poll"])
def test_two_tabs_chat(open_tab: OpenTab, transport: str) -> None:
    query = f"?transport={transport}" if transport else ""
    alice = open_tab("alice", join=False, query=query)
    alice.screenshot("join")
    alice.join("alice", "lobby")
    bob = open_tab("bob", query=query)
    assert bob.get("state").get_attribute("data-transport") == (transport or "websocket")
    if transport != "poll":  # whose presence is only looked at now and then
        alice.until(lambda: "bob is here." in alice.get("log").text)
    alice.say("Hello, who is here? :)")
    bob.sees("Hello, who is here? 🙂")
    bob.say("me: see https://example.org/a_(b). and www.example.org, o/")
    bob.say("and more")
    bob.say("/me waves")
    alice.sees("waves")
    alice.say("so it works")
    bob.sees("so it works")
    assert alice.messages() == bob.messages()
    assert alice.messages()[2:] == ["and more", "waves", "so it works"]
    links = alice.front().find_elements(By.CSS_SELECTOR, "#log a")
    assert [link.get_attribute("href") for link in links] == [
        "https://example.org/a_(b)",
        "https://www.example.org/",
    ]
    assert {link.get_attribute("rel") for link in links} == {"noopener noreferrer nofollow ugc"}
    assert "bob waves" in alice.front().find_element(By.CSS_SELECTOR, ".action").text
    if not transport:
        bob.until(lambda: bob.texts("#people li") == ["alice", "bob (you)"])
        bob.screenshot("two-tabs")
    assert alice.console() == []


def test_a_link_can_only_ask_for_a_transport(open_tab: OpenTab) -> None:
    alice = open_tab("alice", query="?transport=run")  # the name of a method, that calls itself
    assert alice.get("state").get_attribute("data-transport") == "websocket"


def test_shift_enter_breaks_the_line_and_limits_are_said(open_tab: OpenTab) -> None:
    alice = open_tab("alice")
    text = alice.get("text")
    text.send_keys("one", Keys.SHIFT, Keys.ENTER)
    alice.front().switch_to.active_element.send_keys(Keys.NULL, "two", Keys.ENTER)
    alice.sees("onetwo")  # with a <br> between them, which textContent leaves out
    assert len(alice.front().find_elements(By.CSS_SELECTOR, "#log .content br")) == 1
    text.send_keys("  ", Keys.ENTER)
    assert alice.get("compose-error").text == "There is nothing to post yet."
    alice.fill("text", "😀" * 513)
    text.send_keys(Keys.ENTER)
    assert alice.get("compose-error").text == "That is too long: 513 of 512 characters."
    assert alice.get("count").text == "-1 left"
    alice.screenshot("too-long")
    alice.fill("text", "😀" * 512)
    text.send_keys(Keys.ENTER)
    alice.sees("😀" * 512)


def test_the_share_link_leads_to_the_channel(
    driver: Any, server: ChatServer, open_tab: OpenTab
) -> None:
    alice = open_tab("alice", "a & b #1?<>")
    alice.get("share").click()
    link = alice.get("share-link").get_property("value")
    assert alice.front().current_url == link
    bob = Tab(driver, server, str(link).removeprefix(f"{server.url}/"))
    assert bob.get("channel").get_property("value") == "a & b #1?<>"


def test_the_title_flashes_while_unfocused(open_tab: OpenTab) -> None:
    alice, bob = open_tab("alice"), open_tab("bob")
    # Whether a headless tab has the focus is up to the browser; the page asks this.
    alice.front().execute_script("document.hasFocus = () => false")
    bob.say("psst")
    alice.until(lambda: alice.front().title == "(1) * People said stuff *")
    alice.until(lambda: alice.front().title == "#lobby")
    alice.front().execute_script("dispatchEvent(new Event('focus'))")
    assert alice.front().title == "#lobby"


def test_the_newest_message_stays_in_sight_unless_one_reads_above(open_tab: OpenTab) -> None:
    alice, bob = open_tab("alice"), open_tab("bob")
    scroller = bob.get("scroller")
    for number in range(30):
        alice.say(f"line {number}")
    bob.sees("line 29")
    script = "const s = arguments[0]; return s.scrollHeight - s.scrollTop - s.clientHeight"
    assert bob.front().execute_script(script, scroller) <= 1
    bob.front().execute_script("arguments[0].scrollTop = 0", scroller)
    alice.say("below")
    bob.sees("below")
    assert bob.front().execute_script("return arguments[0].scrollTop", scroller) == 0
    bob.get("newer").click()
    assert bob.front().execute_script(script, scroller) <= 1
    assert not bob.get("newer").is_displayed()


def test_a_picked_emoticon_lands_in_the_text(open_tab: OpenTab) -> None:
    alice = open_tab("alice")
    alice.get("text").send_keys("hi")
    alice.get("smile").click()
    alice.screenshot("emoticons")
    alice.front().find_element(By.CSS_SELECTOR, "#emoticons [title=':D']").click()
    assert alice.get("text").get_property("value") == "hi :D "
    alice.get("text").send_keys(Keys.ENTER)
    alice.sees("hi 😄")


def test_a_killed_server_is_reconnected_to(open_tab: OpenTab, server: ChatServer) -> None:
    alice, bob = open_tab("alice"), open_tab("bob")
    alice.say("before")
    bob.sees("before")
    server.kill()
    alice.until(lambda: alice.state() == "waiting")
    assert alice.get("banner").is_displayed()
    alice.get("text").send_keys("lost?", Keys.ENTER)
    assert alice.texts("#log .delivery")[-1] == "sending…"
    alice.screenshot("server-gone")
    server.start()
    # By script: a page that meanwhile tried by itself hides the button, and then it does no harm.
    alice.front().execute_script("arguments[0].click()", alice.get("retry"))
    alice.until(lambda: alice.state() == "live")
    bob.until(lambda: bob.state() == "live")
    assert not alice.get("banner").is_displayed()
    # It had no disk to keep them on: that something may be missing is said, not passed over.
    assert "Some messages may be missing here." in bob.get("log").text
    bob.sees("lost?")
    assert bob.messages() == ["before", "lost?"]
    alice.until(lambda: not alice.sending())
    bob.screenshot("reconnected")


def test_what_is_said_while_one_is_offline_arrives_once(open_tab: OpenTab) -> None:
    alice, bob = open_tab("alice"), open_tab("bob")
    bob.say("before")
    alice.sees("before")
    throttle = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    alice.front().execute_cdp_cmd("Network.enable", {})
    offline = "Network.emulateNetworkConditions"
    alice.front().execute_cdp_cmd(offline, {"offline": True, **throttle})
    bob.say("1")
    bob.say("2")
    alice.until(lambda: alice.state() == "waiting")
    alice.front().execute_cdp_cmd(offline, {"offline": False, **throttle})
    alice.until(lambda: alice.state() == "live")
    bob.say("after")
    alice.sees("after")
    assert alice.messages() == ["before", "1", "2", "after"]
    assert "missing" not in alice.get("log").text


def test_a_killed_server_with_a_file_loses_nothing(
    driver: Any, tmp_path: Path, open_tab: OpenTab
) -> None:
    with ChatServer("--store", f"sqlite:{tmp_path}/chat.db") as server:
        alice, bob = (Tab(driver, server) for _ in range(2))
        alice.join("alice", "lobby")
        bob.join("bob", "lobby")
        alice.say("one")
        for number in range(3):
            server.kill()
            alice.until(lambda: alice.state() == "waiting")
            alice.get("text").send_keys(f"kill {number}", Keys.ENTER)
            server.start()
            bob.sees(f"kill {number}")
        assert bob.messages() == ["one", "kill 0", "kill 1", "kill 2"]
        alice.until(lambda: alice.messages() == bob.messages() and not alice.sending())
        assert "missing" not in bob.get("log").text


def test_a_store_that_was_down_at_the_beginning_is_waited_for(
    driver: Any, tmp_path: Path, open_tab: OpenTab
) -> None:
    with RedisServer(tmp_path) as redis, ChatServer("--store", redis.url) as server:
        alice = Tab(driver, server)
        alice.join("alice", "lobby")
        redis.kill()
        server.kill()
        server.start()
        alice.until(lambda: get(server, "/stats")["refused"] > 0)  # its subscription, among others
        alice.get("text").send_keys("hi", Keys.ENTER)
        redis.start()
        alice.until(lambda: alice.state() == "live" and not alice.sending())
        assert alice.messages() == ["hi"]


def test_history_of_another_epoch_is_not_put_above(open_tab: OpenTab, server: ChatServer) -> None:
    for number in range(60):
        say(server, f"old {number}")
    alice = open_tab("alice")
    alice.until(lambda: has_messages(alice, 50))
    server.kill()  # and what it had in memory is gone
    server.start()
    say(server, "new")
    alice.sees("new")
    alice.front().execute_script("arguments[0].scrollTop = 0", alice.get("scroller"))
    say(server, "newest")
    alice.sees("newest")
    assert alice.messages() == [f"old {number}" for number in range(10, 60)] + ["new", "newest"]


def test_channels_have_unread_counts(open_tab: OpenTab) -> None:
    alice, bob = open_tab("alice"), open_tab("bob")
    alice.get("another-name").send_keys("second", Keys.ENTER)
    alice.until(lambda: alice.get("room-name").text == "second")
    alice.say("in the second")
    bob.say("one")
    bob.say("two")
    alice.until(lambda: alice.texts("#rooms .unread") == ["2"])
    alice.screenshot("unread")
    alice.front().find_element(By.CSS_SELECTOR, "#rooms .channel").click()
    alice.sees("two")
    assert alice.messages() == ["one", "two"]
    assert alice.texts("#rooms .unread") == []
    bob.say("three")
    alice.sees("three")
    alice.front().find_elements(By.CSS_SELECTOR, "#rooms .leave")[1].click()
    alice.until(lambda: alice.texts("#rooms .channel bdi") == ["lobby"])


@pytest.mark.parametrize("transport", ["events", "poll"])
def test_other_channels_are_looked_at_where_one_connection_carries_one(
    open_tab: OpenTab, transport: str
) -> None:
    alice, bob = open_tab("alice", query=f"?transport={transport}"), open_tab("bob")
    bob.say("zero")
    alice.sees("zero")
    alice.get("another-name").send_keys("second", Keys.ENTER)
    alice.until(lambda: alice.get("room-name").text == "second" and alice.state() == "live")
    alice.say("in the second")
    bob.say("one")
    alice.until(lambda: alice.texts("#rooms .unread") == ["1"])
    alice.front().find_element(By.CSS_SELECTOR, "#rooms .channel").click()
    alice.sees("one")
    assert alice.messages() == ["zero", "one"]


def test_history_comes_on_scrolling_up(open_tab: OpenTab, server: ChatServer) -> None:
    for number in range(120):
        say(server, f"line {number}")
    alice = open_tab("alice")
    alice.until(lambda: len(alice.messages()) == 50)
    for count in (100, 120):
        alice.front().execute_script("arguments[0].scrollTop = 0", alice.get("scroller"))
        alice.until(partial(has_messages, alice, count))
    assert alice.messages() == [f"line {number}" for number in range(120)]


def get(server: ChatServer, path: str) -> Any:
    with urllib.request.urlopen(f"{server.url}{path}", timeout=20) as response:
        return json.load(response)


def has_messages(tab: Tab, count: int) -> bool:
    return len(tab.messages()) == count


def say(server: ChatServer, msg: str) -> None:
    body = json.dumps({"channel": "lobby", "sname": "cat", "msg": msg}).encode()
    kind = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{server.url}/publish", body, kind)
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.status == 200


def test_a_transport_that_does_not_get_through_is_given_up(
    driver: Any, server: ChatServer, open_tab: OpenTab
) -> None:
    broken = "window.WebSocket = function () { throw new Error('not here') }"
    driver.switch_to.new_window("tab")
    added = driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": broken})
    driver.get(server.url)
    tab = Tab.__new__(Tab)
    tab.driver, tab.url, tab.handle = driver, server.url, driver.current_window_handle
    tab.join("ann", "lobby")
    assert tab.get("state").get_attribute("data-transport") == "events"
    tab.say("hi")
    driver.execute_cdp_cmd(
        "Page.removeScriptToEvaluateOnNewDocument", {"identifier": added["identifier"]}
    )


def test_a_refused_token_is_said(
    driver: Any, open_tab: OpenTab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHAT_SECRET", "s")
    with ChatServer() as server:
        tab = Tab(driver, server, f"?token={tokens.make('s', 'lobby', 'ann')}")
        tab.fill("channel", "lobby")
        tab.join("ann", "lobby")
        tab.say("hi")
        other = Tab(driver, server)
        other.fill("nickname", "eve")
        other.fill("channel", "lobby")
        other.get("channel").send_keys(Keys.ENTER)
        other.until(lambda: other.state() == "refused")
        assert "token" in other.get("banner").text


XSS = [
    "<script>document.title = 'owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\"><svg/onload=document.title='owned'>",
    "javascript:document.title='owned'",
    "https://example.org/\"onmouseover=\"document.title='owned'",
    "');document.title='owned';//",
    "\u202etxt.exe </bdi><b>bold",
]


@pytest.mark.parametrize("payload", XSS)
def test_markup_stays_text_in_every_field(open_tab: OpenTab, payload: str) -> None:
    alice = open_tab(payload, payload)
    bob = open_tab(payload, payload)
    alice.say(payload)
    alice.say(f"/me {payload}")
    bob.until(lambda: len(bob.messages()) == 2)
    assert bob.messages() == [payload, payload]
    for tab in (alice, bob):
        assert tab.front().title == f"#{payload}"
        assert tab.get("room-name").get_property("textContent") == payload
        assert tab.get("me").get_property("textContent") == payload
        count = "return document.querySelectorAll('#log :is(script, img, svg, b, style)').length"
        assert tab.front().execute_script(count) == 0
        for link in tab.front().find_elements(By.CSS_SELECTOR, "#log a"):
            assert str(link.get_attribute("href")).startswith("https://example.org/")
            assert link.get_attribute("onmouseover") is None
        assert tab.console() == []


def test_360_pixels_are_wide_enough(open_tab: OpenTab, server: ChatServer) -> None:
    alice = open_tab("alice", "a-channel-with-a-rather-long-name")
    metrics = {"width": 360, "height": 640, "deviceScaleFactor": 2, "mobile": True}
    alice.front().execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        alice.say("W" * 200)
        alice.say("Hello from a phone :)")
        alice.get("share").click()
        alice.sees("Hello from a phone 🙂")
        wide = "return [document.documentElement.scrollWidth, innerWidth]"
        assert alice.front().execute_script(wide) == [360, 360]
        for element_id in ("text", "post", "smile", "share"):
            at = alice.get(element_id).rect
            assert at["x"] >= 0
            assert at["x"] + at["width"] <= 360
            assert at["y"] + at["height"] <= 640
        alice.screenshot("360px")
        alice.front().get(server.url)
        assert alice.front().execute_script(wide) == [360, 360]
        alice.screenshot("360px-join")
    finally:
        alice.front().execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_dark_mode(open_tab: OpenTab) -> None:
    alice = open_tab("alice")
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    alice.front().execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    alice.say("Good evening :)")
    alice.sees("Good evening 🙂")
    style = "return getComputedStyle(document.body).backgroundColor"
    assert alice.front().execute_script(style) == "rgb(15, 21, 22)"
    alice.screenshot("dark")


def test_the_keyboard_is_enough(driver: Any, server: ChatServer, open_tab: OpenTab) -> None:
    tab = open_tab("", join=False)
    active = tab.front().switch_to.active_element
    assert active.get_attribute("id") == "nickname"
    active.send_keys(Keys.CONTROL, "a")
    active.send_keys(Keys.NULL, Keys.DELETE, Keys.ENTER)
    assert tab.get("join-error").text == "Enter a nickname."
    tab.front().switch_to.active_element.send_keys("kay", Keys.ENTER)
    tab.until(lambda: tab.state() == "live")
    assert tab.front().switch_to.active_element.get_attribute("id") == "text"
    unlabelled = """
        return [...document.querySelectorAll('#room :is(button, input, textarea)')].filter(
            (each) => !(each.ariaLabel || each.textContent.trim() || each.labels?.length)
        ).map((each) => each.outerHTML)"""
    assert tab.front().execute_script(unlabelled) == []


def test_a_closed_tab_frees_its_poll(open_tab: OpenTab, server: ChatServer) -> None:
    alice = open_tab("alice")
    alice.until(lambda: alice.state() == "live")
    bob = open_tab("bob")
    before = established(server)
    alice.front().close()
    bob.until(lambda: established(server) < before)


def established(server: ChatServer) -> int:
    """The server's open sockets, by what the kernel says."""
    fds = Path(f"/proc/{server.pid()}/fd")
    return sum("socket:" in str(fd.readlink()) for fd in fds.iterdir())
