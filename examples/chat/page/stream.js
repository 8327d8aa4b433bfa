// The channels' messages, by the best transport that gets through: WebSocket, else server-sent
// events, else long polls. All three carry the same items, so whichever it is, the stream goes on
// after the last item it has seen, and what the server no longer has it says so itself, with a GAP.
//
// What is published has an id of this page's making and is sent, again and again if need be, until
// the server has acknowledged it: it arrives, and once.

const POLL_MS = 30_000;
const WATCHDOG_MS = POLL_MS * 1.3; // a connection that is silent for longer is asked, or given up
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;
const REQUEST_MS = 10_000;
const LOOK_MS = 5_000; // where one connection carries one channel, the others are looked at
const FIRST_ITEMS = 50;
const TRANSPORTS = ["websocket", "events", "poll"];

export class Refused extends Error {}

export class Stream {
  // onItem(channel, item) gets what is new, in order; onState(state, detail) gets "connecting",
  // "live" with the transport, "waiting" with the milliseconds to the next try, or "refused" with
  // the server's reason; onUnread(channel, count) gets how much was said where nobody listens.
  constructor({ sname, token, transport, onItem, onState, onUnread }) {
    Object.assign(this, { sname, token, onItem, onState, onUnread });
    this.transports = TRANSPORTS.includes(transport) ? [transport] : [...TRANSPORTS];
    this.positions = new Map(); // channel -> the id of the last item, null before the first
    this.current = null; // the channel that is listened to where there can be but one
    this.pending = new Map(); // cid -> what is not acknowledged
    this.live = false;
    this.socket = null;
    this.hangUp = () => {};
    this.retryNow = () => {};
    addEventListener("online", () => this.retryNow());
    addEventListener("offline", () => this.hangUp());
  }

  join(channel) {
    if (!this.positions.has(channel)) this.positions.set(channel, null);
    this.current = channel;
    if (this.socket) this.subscribe(channel);
    else if (this.transports[0] !== "websocket") this.hangUp(); // and listen to this one
  }

  leave(channel) {
    this.positions.delete(channel);
    if (this.socket) this.say({ type: "unsubscribe", channel });
  }

  async run() {
    this.onState("connecting");
    let retryMs = 0;
    let failures = 0;
    for (;;) {
      const started = this.current;
      let asked = false;
      try {
        await this[this.transports[0]]();
        asked = this.current !== started; // another channel: no reason to wait
        failures = 0;
        retryMs = 0;
      } catch (error) {
        failures += 1;
        const refused = await this.whyRefused();
        if (refused) {
          this.onState("refused", refused);
          return;
        }
        if (refused === null) failures = 0; // the server can't be reached at all
      }
      this.live = false;
      this.socket = null;
      if (failures >= 2 && this.transports.length > 1) {
        this.transports.shift(); // something on the way lets the rest through, but not this
        failures = 0;
      } else if (!asked) {
        retryMs = Math.min(Math.max(retryMs * 2, FIRST_RETRY_MS), LAST_RETRY_MS);
        await this.pause(retryMs * (0.5 + Math.random() / 2));
      }
    }
  }

  // -- transports: each resolves when a connection that worked has ended, and rejects when none did

  websocket() {
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/socket`);
      let heard = performance.now();
      const watchdog = setInterval(() => {
        const silence = performance.now() - heard;
        if (silence > WATCHDOG_MS + REQUEST_MS) this.hangUp();
        else if (silence > WATCHDOG_MS && this.socket) this.say({ type: "ping" });
      }, REQUEST_MS / 2);
      const end = () => {
        clearInterval(watchdog);
        socket.onmessage = socket.onclose = null;
        socket.close();
        (this.live ? resolve : reject)();
      };
      this.hangUp = end;
      socket.onclose = end;
      socket.onopen = () => {
        this.socket = socket;
        for (const channel of this.positions.keys()) this.subscribe(channel);
      };
      socket.onmessage = ({ data }) => {
        heard = performance.now();
        for (const item of JSON.parse(data)) this.take(item);
      };
    });
  }

  events() {
    return this.withLooks((channel, signal) => new Promise((resolve, reject) => {
      const source = new EventSource(this.url("/stream", this.since(channel)));
      const end = () => {
        source.close();
        (this.live ? resolve : reject)();
      };
      signal.addEventListener("abort", end);
      source.onerror = end;
      source.onopen = () => this.becomeLive();
      source.onmessage = ({ data }) => this.take(JSON.parse(data));
    }));
  }

  poll() {
    return this.withLooks(async (channel, signal) => {
      try {
        // The first poll waits for nothing: it tells at once that the server is there.
        for (let wait = 0; !signal.aborted; wait = POLL_MS / 1000) {
          let fields = this.since(channel);
          if (fields.last) fields = { channel, since: await this.before(channel) };
          const late = AbortSignal.timeout(wait ? WATCHDOG_MS : REQUEST_MS);
          const items = await this.get("/subscribe", { ...fields, sname: this.sname, seqid: 0, wait },
            AbortSignal.any([signal, late]));
          for (const item of items) this.take({ ...item, channel });
          this.becomeLive();
        }
      } catch (error) {
        if (!this.live) throw error;
      }
    });
  }

  // Listen to the current channel, and look at the others now and then.
  async withLooks(listen) {
    const aborter = new AbortController();
    this.hangUp = () => aborter.abort();
    const look = async () => {
      for (const [channel, since] of this.positions) {
        try {
          if (channel === this.current) {
            const [hello] = await this.get("/presence", { channel });
            this.take(hello);
          } else {
            const [{ count }] = await this.get("/unread", { channel, ...(since && { since }) });
            if (since) this.onUnread(channel, count);
          }
        } catch {
          /* the next look may do better */
        }
      }
    };
    look();
    const looks = setInterval(look, LOOK_MS);
    try {
      await listen(this.current, aborter.signal);
    } finally {
      clearInterval(looks);
    }
  }

  // -- in and out --------------------------------------------------------------------------------

  take(item) {
    const { type, channel } = item;
    if (type === "publish") return this.acknowledge(item.cid);
    if (/^\d+$/.test(type)) return this.refuse(item);
    if (!this.positions.has(channel)) return undefined;
    if (type === "HELLO") this.becomeLive();
    const before = this.positions.get(channel);
    if (type === "MSG") {
      if (before && isSeen(item.id, before)) return undefined;
      if (item.cid) this.acknowledge(item.cid);
    }
    // Only what tells how far the stream is says where to go on; a HELLO comes before it.
    if (type !== "HELLO") this.positions.set(channel, item.id);
    else if (!before) this.positions.set(channel, null);
    return this.onItem(channel, item);
  }

  becomeLive() {
    if (this.live) return;
    this.live = true;
    this.onState("live", this.transports[0]);
    for (const message of this.pending.values()) this.send(message);
  }

  // Say something. Resolves when the server has it safe; rejects with Refused, or never.
  publish(channel, msg, cid) {
    return new Promise((resolve, reject) => {
      const message = { channel, sname: this.sname, msg, cid, ...this.credentials() };
      this.pending.set(cid, { message, resolve, reject });
      if (this.live) this.send(this.pending.get(cid));
    });
  }

  async send({ message }) {
    if (this.socket) return this.say({ type: "publish", ...message });
    try {
      await ask("/publish", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(message),
        signal: AbortSignal.timeout(REQUEST_MS),
      });
      return this.acknowledge(message.cid);
    } catch (error) {
      if (error instanceof Refused) return this.refuse({ cid: message.cid, reason: error.message });
      return setTimeout(() => this.sendAgain(message.cid), 1000);
    }
  }

  sendAgain(cid) {
    if (this.live && this.pending.has(cid)) this.send(this.pending.get(cid));
  }

  acknowledge(cid) {
    this.pending.get(cid)?.resolve();
    this.pending.delete(cid);
  }

  refuse({ type, cid, reason }) {
    if (cid && (type === "429" || type === "503")) {
      setTimeout(() => this.sendAgain(cid), 1000);
      return;
    }
    if (type === "503") {
      this.hangUp(); // a channel that could not be listened to: the next connection tries again
      return;
    }
    this.pending.get(cid)?.reject(new Refused(reason));
    this.pending.delete(cid);
    if (!cid && type !== "409") this.onState("refused", reason);
  }

  subscribe(channel) {
    this.say({ type: "subscribe", sname: this.sname, ...this.since(channel), ...this.credentials() });
  }

  say(content) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(content));
  }

  // The last `limit` messages before number `before`.
  history(channel, before, limit) {
    return this.get("/history", { channel, before, limit });
  }

  // -- requests ----------------------------------------------------------------------------------

  since(channel) {
    const since = this.positions.get(channel);
    return { channel, ...(since ? { since } : { last: FIRST_ITEMS }) };
  }

  async before(channel) {
    const [{ epoch, seqid }] = await this.get("/presence", { channel });
    return `${epoch}:${Math.max(seqid - FIRST_ITEMS, -1)}`;
  }

  credentials() {
    return this.token ? { token: this.token } : {};
  }

  url(path, fields) {
    const query = { sname: this.sname, ...fields, ...this.credentials() };
    return `${path}?${new URLSearchParams(query)}`;
  }

  get(path, fields, signal = AbortSignal.timeout(REQUEST_MS)) {
    return ask(this.url(path, fields), { cache: "no-store", signal });
  }

  // Why the server refuses; "": it doesn't; null: it can't be reached.
  async whyRefused() {
    try {
      await this.get("/presence", { channel: this.current });
      return "";
    } catch (error) {
      return error instanceof Refused ? error.message : null;
    }
  }

  pause(milliseconds) {
    this.onState("waiting", milliseconds);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.retryNow = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function isSeen(id, last) {
  const [epoch, seq] = id.split(":");
  const [lastEpoch, lastSeq] = last.split(":");
  return epoch === lastEpoch && Number(seq) <= Number(lastSeq);
}

async function ask(url, options) {
  const response = await fetch(url, options);
  if (response.ok) return response.json();
  const [{ reason }] = await response.json();
  // What is wrong with the request itself won't be better the next time.
  if (response.status < 500 && response.status !== 429 && response.status !== 408) {
    throw new Refused(reason);
  }
  throw new Error(reason);
}
