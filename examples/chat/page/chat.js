// The page: the join form, the rooms, and the box to write in.

import { Room, nameOf, randomName, remember, remembered } from "./rooms.js";
import { Refused, Stream } from "./stream.js";
import { EMOTICONS, render } from "./text.js";

const MAX_MESSAGE = 512; // characters, as the server counts them
const HISTORY = 50;
const FLASH_MS = 800;
const NEAR_END_PX = 60;

const $ = (id) => document.getElementById(id);
const scroller = $("scroller");
const text = $("text");
const query = new URLSearchParams(location.search);

const rooms = new Map();
let room = null; // the one that is shown
let stream = null;

// -- joining ---------------------------------------------------------------------------------------

$("channel").value = query.get("channel")?.trim() || randomName(12);
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

function enter(sname, channel) {
  remember("nickname", sname);
  $("me").textContent = sname;
  $("welcome").hidden = true;
  $("room").hidden = false;
  stream = new Stream({
    sname,
    token: query.get("token"),
    transport: query.get("transport"),
    onItem: showItem,
    onState: showState,
    onUnread: (name, count) => {
      rooms.get(name).unread = count;
      showRooms();
    },
  });
  show(channel);
  stream.run();
}

// -- rooms -----------------------------------------------------------------------------------------

function show(channel) {
  if (room) room.atEnd = isAtEnd();
  if (!rooms.has(channel)) rooms.set(channel, new Room(channel));
  room = rooms.get(channel);
  room.unread = 0;
  stream.join(channel);
  const url = new URL(location.href);
  url.searchParams.set("channel", channel);
  history.replaceState(null, "", url);
  url.search = new URLSearchParams({ channel });
  $("share-link").value = url.href;
  $("share-line").hidden = true;
  $("room-name").textContent = channel;
  title.set(`#${channel}`);
  $("log").removeAttribute("id");
  scroller.querySelector("ol").replaceWith(room.log);
  room.log.id = "log";
  $("nothing").hidden = !room.nothing;
  $("newer").hidden = true;
  showRooms();
  showPeople();
  closeSide();
  if (room.atEnd) scrollToEnd();
  text.focus();
}

function leave(channel) {
  stream.leave(channel);
  rooms.delete(channel);
  if (channel === room.name) show([...rooms.keys()].at(-1));
  else showRooms();
}

function showRooms() {
  $("rooms").replaceChildren(
    ...[...rooms.values()].map((each) => {
      const entry = document.createElement("li");
      const button = document.createElement("button");
      button.type = "button";
      button.className = "channel";
      if (each === room) button.ariaCurrent = "true";
      const label = document.createElement("bdi");
      label.textContent = each.name;
      button.append(label);
      if (each.unread) {
        const badge = document.createElement("span");
        badge.className = "unread";
        badge.textContent = each.unread > 99 ? "99+" : each.unread;
        badge.ariaLabel = `${each.unread} unread`;
        badge.role = "img";
        button.append(badge);
      }
      button.addEventListener("click", () => show(each.name));
      entry.append(button);
      if (rooms.size > 1) {
        const close = document.createElement("button");
        close.type = "button";
        close.className = "leave";
        close.textContent = "×";
        close.ariaLabel = `Leave ${each.name}`;
        close.addEventListener("click", () => leave(each.name));
        entry.append(close);
      }
      return entry;
    }),
  );
}

function showPeople() {
  const names = [...room.names].sort((one, other) => one.localeCompare(other));
  $("people").replaceChildren(
    ...names.map((sname) => {
      const entry = document.createElement("li");
      entry.append(nameOf(sname));
      if (sname === stream.sname) entry.append(" (you)");
      return entry;
    }),
  );
  $("people-count").textContent = room.count || names.length;
}

$("another").addEventListener("submit", (event) => {
  event.preventDefault();
  const name = $("another-name").value.trim();
  $("another-name").value = "";
  if (name) show(name);
});

$("side-toggle").addEventListener("click", () => {
  const open = $("side").classList.toggle("open");
  $("side-toggle").ariaExpanded = String(open);
});

function closeSide() {
  $("side").classList.remove("open");
  $("side-toggle").ariaExpanded = "false";
}

addEventListener("keydown", (event) => {
  if (event.key === "Escape") closeSide();
});

// -- what is said ------------------------------------------------------------------------------------

function showItem(channel, item) {
  const where = rooms.get(channel);
  if (!where) return;
  where.present(item);
  if (where === room) showPeople();
  const { type, sname } = item;
  const isMine = sname === stream.sname;
  if (!["MSG", "GAP", "SIGN", "JOIN", "LEAVE"].includes(type)) return;
  if (type !== "MSG" && type !== "GAP" && isMine) return;
  const atEnd = where === room && isAtEnd();
  const sent = type === "MSG" && where.sending.get(item.cid);
  if (sent) {
    sent.remove(); // it has its place among what others say now
    where.sending.delete(item.cid);
  }
  if (type === "MSG") where.oldest ??= item.seqid;
  if (item.why === "epoch") where.oldest &&= 0; // the numbers above are no longer the server's
  where.log.append(renderItem(where, item));
  where.log.append(...where.sending.values()); // what is not said yet comes last
  if (type === "MSG" && !isMine && (where !== room || document.hidden)) {
    if (where !== room) where.unread += 1;
    showRooms();
  }
  if (type === "MSG" && !isMine && !document.hasFocus()) title.flash(1);
  if (where !== room) return;
  $("nothing").hidden = !room.nothing;
  if (atEnd || isMine) scrollToEnd();
  else if (type === "MSG") $("newer").hidden = false;
}

function renderItem(where, item) {
  const { type, sname } = item;
  if (type === "GAP") return notice(where, [item.msg], "gap");
  if (type === "LEAVE") return notice(where, [nameOf(sname), " has left."]);
  if (type !== "MSG") return notice(where, [nameOf(sname), " is here."]);
  const follows = isNext(where.previous, item);
  where.previous = item;
  return renderMessage(item, follows);
}

function renderMessage(item, follows) {
  const action = /^\/me\s+([^]*)$/.exec(item.msg);
  const entry = document.createElement("li");
  entry.className = action ? "message action" : "message";
  if (item.sname === stream.sname) entry.classList.add("mine");
  if (item.seqid !== undefined) entry.dataset.seqid = item.seqid;
  const time = timeOf(item);
  if (action) {
    entry.append("* ", nameOf(item.sname), " ", content(action[1]), time);
    return entry;
  }
  if (follows) entry.classList.add("follows");
  const head = document.createElement("div");
  head.className = "head";
  head.append(nameOf(item.sname), time);
  entry.append(head, content(item.msg));
  return entry;
}

function isNext(previous, item) {
  const action = (each) => each.msg.startsWith("/me ");
  return Boolean(
    previous &&
      previous.sname === item.sname &&
      item.time - previous.time < 300 &&
      !action(previous) &&
      !action(item),
  );
}

function notice(where, parts, kind = "sign") {
  const entry = document.createElement("li");
  entry.className = `notice ${kind}`;
  entry.append(...parts);
  where.previous = null;
  return entry;
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

// -- scrolling ---------------------------------------------------------------------------------------

function isAtEnd() {
  return scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_END_PX;
}

function scrollToEnd() {
  scroller.scrollTop = scroller.scrollHeight;
  $("newer").hidden = true;
}

$("newer").addEventListener("click", scrollToEnd);
scroller.addEventListener("scroll", () => {
  if (isAtEnd()) $("newer").hidden = true;
  if (scroller.scrollTop < NEAR_END_PX) showOlder();
});
// The keyboard of a phone, or a banner, takes room away: the end stays in sight.
new ResizeObserver(() => {
  if ($("newer").hidden) scrollToEnd();
}).observe(scroller);

// What was said before, when one scrolls up to it; what one reads stays where it is.
async function showOlder() {
  const where = room;
  if (!where?.oldest || where.loading) return;
  where.loading = true;
  try {
    const items = await stream.history(where.name, where.oldest, HISTORY);
    const height = scroller.scrollHeight;
    const older = items.map((item, index) => renderMessage(item, isNext(items[index - 1], item)));
    where.log.prepend(...older);
    where.oldest = items.length ? items[0].seqid : 0;
    if (where === room) scroller.scrollTop += scroller.scrollHeight - height;
  } catch {
    /* the next scroll tries again */
  }
  where.loading = false;
}

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
  if (state === "live") $("state").dataset.transport = $("state").title = detail;
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

$("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const msg = text.value.trim();
  if (!msg) return complain("There is nothing to post yet.");
  if (length(msg) > MAX_MESSAGE) {
    return complain(`That is too long: ${length(msg)} of ${MAX_MESSAGE} characters.`);
  }
  complain("");
  text.value = "";
  resized();
  return post(room, msg);
});

// Show a message as one's own at once, and what becomes of it.
async function post(where, msg) {
  const cid = crypto.randomUUID?.() ?? randomName(22);
  const entry = renderMessage({ sname: stream.sname, msg, time: Date.now() / 1000 }, false);
  const state = document.createElement("span");
  state.className = "delivery";
  state.textContent = " sending…";
  entry.classList.add("sending");
  entry.append(state);
  where.sending.set(cid, entry);
  where.log.append(entry);
  $("nothing").hidden = true;
  if (where === room) scrollToEnd();
  try {
    await stream.publish(where.name, msg, cid);
    entry.classList.remove("sending");
    state.textContent = "";
  } catch (error) {
    entry.classList.add("failed");
    state.textContent = error instanceof Refused ? ` Not posted: ${error.message}.` : " Not posted.";
    state.role = "alert";
  }
}

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
