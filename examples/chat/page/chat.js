// The page: the join form, the room, and the box to write in.

import { Refused, Stream } from "./stream.js";
import { EMOTICONS, render } from "./text.js";

const MAX_MESSAGE = 512; // characters, as the server counts them
const FLASH_MS = 800;
const NEAR_END_PX = 60;

const $ = (id) => document.getElementById(id);
const log = $("log");
const scroller = $("scroller");
const text = $("text");

let stream = null;

// -- joining ---------------------------------------------------------------------------------------

const asked = new URLSearchParams(location.search).get("channel")?.trim();
$("channel").value = asked || randomName(12);
$("nickname").value = remembered("nickname") || `guest-${randomName(4)}`;
$("nickname").select();

$("public").addEventListener("click", () => {
  $("channel").value = "public";
  $("nickname").focus();
});

$("join").addEventListener("submit", (event) => {
  event.preventDefault();
  const [nickname, channel] = [$("nickname"), $("channel")];
  const missing = [nickname, channel].find((field) => !field.value.trim());
  for (const field of [nickname, channel]) field.ariaInvalid = String(field === missing);
  if (missing) {
    $("join-error").textContent = `Enter a ${missing.id}.`;
    missing.focus();
    return;
  }
  enter(nickname.value.trim(), channel.value.trim());
});

function enter(nickname, channel) {
  remember("nickname", nickname);
  const url = new URL(location.pathname, location.origin);
  url.searchParams.set("channel", channel);
  history.replaceState(null, "", url);
  $("share-link").value = url.href;
  $("room-name").textContent = channel;
  $("me").textContent = nickname;
  title.set(`#${channel}`);
  $("welcome").hidden = true;
  $("room").hidden = false;
  text.focus();
  stream = new Stream(channel, nickname, { onItems: showItems, onState: showState });
  stream.run();
}

function randomName(length) {
  const letters = "abcdefghjkmnpqrstuvwxyz23456789";
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => letters[byte % letters.length]).join("");
}

// Storage may be switched off; then nothing is remembered.
function remembered(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    /* then not */
  }
}

// -- what is said ------------------------------------------------------------------------------------

let previous = null; // the last message shown, to put what one person says in a row together

function showItems(items) {
  const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END_PX;
  const shown = items.map(renderItem);
  log.append(...shown);
  $("nothing").hidden = log.children.length > 0;
  const mine = items.some((item) => item.type === "MSG" && item.sname === stream.sname);
  if (atEnd || mine) scrollToEnd();
  else $("newer").hidden = false;
  const news = items.filter((item) => item.type === "MSG" && item.sname !== stream.sname);
  if (news.length && !document.hasFocus()) title.flash(news.length);
}

function renderItem(item) {
  if (item.type === "SIGN") return notice([name(item.sname), " is here."]);
  if (item.type === "GAP") return notice([item.msg], "gap");
  const action = /^\/me\s+([^]*)$/.exec(item.msg);
  const entry = document.createElement("li");
  entry.className = action ? "message action" : "message";
  if (item.sname === stream.sname) entry.classList.add("mine");
  entry.style.setProperty("--hue", hue(item.sname));
  entry.dataset.seqid = item.seqid;
  const time = timeOf(item);
  if (action) {
    entry.append("* ", name(item.sname), " ", content(action[1]), time);
    previous = null;
    return entry;
  }
  const follows = previous && previous.sname === item.sname && item.time - previous.time < 300;
  if (follows) entry.classList.add("follows");
  const head = document.createElement("div");
  head.className = "head";
  head.append(name(item.sname), time);
  entry.append(head, content(item.msg));
  previous = item;
  return entry;
}

function notice(parts, kind = "sign") {
  const entry = document.createElement("li");
  entry.className = `notice ${kind}`;
  entry.append(...parts);
  previous = null;
  return entry;
}

function name(sname) {
  const element = document.createElement("bdi");
  element.className = "name";
  element.textContent = sname;
  return element;
}

function content(msg) {
  const element = document.createElement("span");
  element.className = "content";
  element.dir = "auto";
  element.append(render(msg));
  return element;
}

function timeOf(item) {
  const when = new Date(item.time * 1000);
  const element = document.createElement("time");
  element.dateTime = when.toISOString();
  element.title = when.toLocaleString();
  element.textContent = when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return element;
}

// A name has the same colour for everybody.
function hue(sname) {
  let sum = 0;
  for (const character of sname) sum = (sum * 31 + character.codePointAt(0)) % 3600;
  return sum / 10;
}

// -- scrolling ---------------------------------------------------------------------------------------

function scrollToEnd() {
  scroller.scrollTop = scroller.scrollHeight;
  $("newer").hidden = true;
}

$("newer").addEventListener("click", scrollToEnd);
scroller.addEventListener("scroll", () => {
  const left = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
  if (left < NEAR_END_PX) $("newer").hidden = true;
});
// The keyboard of a phone, or a banner, takes room away: the end stays in sight.
new ResizeObserver(() => {
  if ($("newer").hidden) scrollToEnd();
}).observe(scroller);

// -- the connection ----------------------------------------------------------------------------------

let countdown = null;

function showState(state, detail) {
  clearInterval(countdown);
  const banner = $("banner");
  const saying = {
    connecting: "Connecting…",
    live: "Connected",
    waiting: "Reconnecting…",
    refused: "Not connected",
  };
  $("state").dataset.state = state;
  $("state-text").textContent = saying[state];
  banner.hidden = state !== "waiting" && state !== "refused";
  $("retry").hidden = state !== "waiting";
  if (state === "refused") $("banner-text").textContent = `The server refused: ${detail}.`;
  if (state !== "waiting") return;
  // Said once for a screen reader; the seconds run in the button.
  const said = "The server can’t be reached. What you missed arrives when it is back.";
  if ($("banner-text").textContent !== said) $("banner-text").textContent = said;
  const until = Date.now() + detail;
  const tick = () => {
    const seconds = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    $("retry").textContent = seconds ? `Try now (${seconds} s)` : "Trying…";
  };
  tick();
  countdown = setInterval(tick, 250);
}

$("retry").addEventListener("click", () => stream.retryNow());

// -- the title ---------------------------------------------------------------------------------------

// While the page has no focus, the title takes turns with how much was said meanwhile.
const title = {
  plain: document.title,
  unread: 0,
  timer: null,
  set(plain) {
    this.plain = document.title = plain;
  },
  flash(count) {
    this.unread += count;
    const show = () => {
      const news = `(${this.unread}) * People said stuff *`;
      document.title = document.title === this.plain ? news : this.plain;
    };
    if (this.timer === null) {
      show();
      this.timer = setInterval(show, FLASH_MS);
    }
  },
  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.unread = 0;
    document.title = this.plain;
  },
};
addEventListener("focus", () => title.stop());

// -- writing -----------------------------------------------------------------------------------------

const length = (msg) => [...msg].length; // characters, not UTF-16 units

$("compose").addEventListener("submit", async (event) => {
  event.preventDefault();
  const msg = text.value.trim();
  if (text.readOnly) return;
  if (!msg) return complain("There is nothing to post yet.");
  if (length(msg) > MAX_MESSAGE) {
    return complain(`That is too long: ${length(msg)} of ${MAX_MESSAGE} characters.`);
  }
  complain("");
  text.readOnly = true;
  try {
    await stream.publish(msg);
    text.value = "";
    resized();
  } catch (error) {
    complain(
      error instanceof Refused
        ? `Not posted: ${error.message}.`
        : "Not posted: the server can’t be reached. Your text is still here; post it again.",
    );
  } finally {
    text.readOnly = false;
    text.focus();
  }
});

text.addEventListener("keydown", (event) => {
  // While an input method composes a character, Enter belongs to it.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("compose").requestSubmit();
});

text.addEventListener("input", () => {
  complain("");
  resized();
});

function complain(about) {
  $("compose-error").textContent = about;
  text.ariaInvalid = String(Boolean(about));
}

// The box grows with its text, up to what the style sheet allows; the count shows near the limit.
function resized() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + text.offsetHeight - text.clientHeight}px`;
  const left = MAX_MESSAGE - length(text.value.trim());
  $("count").textContent = left <= 80 ? `${left} left` : "";
  $("count").classList.toggle("over", left < 0);
}

// -- sharing and emoticons -----------------------------------------------------------------------------

$("share").addEventListener("click", async () => {
  $("share-line").hidden = false;
  $("share-link").select();
  try {
    await navigator.clipboard.writeText($("share-link").value);
    $("share-label").textContent = "Link copied";
  } catch {
    $("share-label").textContent = "Link to this channel"; // selected, to be copied by hand
  }
});

for (const [emoji, typed] of EMOTICONS) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = emoji;
  button.title = typed;
  button.ariaLabel = typed;
  button.addEventListener("click", () => {
    $("emoticons").hidePopover();
    const before = text.value.slice(0, text.selectionStart);
    const blank = before && !/\s$/.test(before) ? " " : "";
    text.setRangeText(`${blank}${typed} `, text.selectionStart, text.selectionEnd, "end");
    resized();
    text.focus();
  });
  $("emoticons").append(button);
}
