// A channel's messages, by long polls: each poll asks for what comes after the last item, and is
// answered when there is something, or after 30 s with a NOOP. When the server can't be reached it
// is asked again, ever more rarely and never in step with everybody else; the stream then goes on
// where it stopped. What the server no longer has it says so itself, with a GAP.

const POLL_MS = 30_000;
const WATCHDOG_MS = POLL_MS * 1.3; // a poll that takes longer was lost on the way
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;
const REQUEST_MS = 10_000;

export class Refused extends Error {}

export class Stream {
  // onItems(items) gets what is new, in order; onState(state, detail) gets "connecting", "live",
  // "waiting" with the milliseconds to the next try, or "refused" with the server's reason.
  constructor(channel, sname, { onItems, onState }) {
    this.channel = channel;
    this.sname = sname;
    this.onItems = onItems;
    this.onState = onState;
    this.seqid = 0;
    this.epoch = null;
    this.retryNow = () => {};
    addEventListener("online", () => this.retryNow());
  }

  async run() {
    this.onState("connecting");
    let retryMs = 0;
    let signed = false;
    let live = false;
    for (;;) {
      try {
        if (!signed) await this.get("/sign", {}, REQUEST_MS);
        signed = true;
        // The first poll waits for nothing: it tells at once that the server is there.
        const at = { seqid: this.seqid, ...(this.epoch && { epoch: this.epoch }) };
        const items = live
          ? await this.get("/subscribe", at, WATCHDOG_MS)
          : await this.get("/subscribe", { ...at, wait: 0 }, REQUEST_MS);
        this.take(items);
        if (!live) this.onState("live");
        live = true;
        retryMs = 0;
      } catch (error) {
        if (error instanceof Refused) {
          this.onState("refused", error.message);
          return;
        }
        live = false;
        retryMs = Math.min(Math.max(retryMs * 2, FIRST_RETRY_MS), LAST_RETRY_MS);
        await this.pause(retryMs * (0.5 + Math.random() / 2));
      }
    }
  }

  // Say something; rejects with Refused and the server's reason, or with whatever failed.
  async publish(msg) {
    const { channel, sname } = this;
    await ask("/publish", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ channel, sname, msg }),
      signal: AbortSignal.timeout(REQUEST_MS),
    });
  }

  get(path, fields, milliseconds) {
    const query = new URLSearchParams({ channel: this.channel, sname: this.sname, ...fields });
    return ask(`${path}?${query}`, { cache: "no-store", signal: AbortSignal.timeout(milliseconds) });
  }

  take(items) {
    const fresh = items.filter(
      (item) => item.type !== "MSG" || item.epoch !== this.epoch || item.seqid >= this.seqid,
    );
    const last = items[items.length - 1];
    this.seqid = last.seqid + 1;
    this.epoch = last.epoch;
    const told = fresh.filter((item) => item.type !== "NOOP");
    if (told.length) this.onItems(told);
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
