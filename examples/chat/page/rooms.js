// The rooms that this page is in: each has its messages, who is there, and what is unread.

export class Room {
  constructor(name) {
    this.name = name;
    this.log = document.createElement("ol");
    this.unread = 0;
    this.names = new Set();
    this.count = 0;
    this.oldest = null; // the number of the oldest message that is shown
    this.previous = null; // the last one, to put what one person says in a row together
    this.atEnd = true;
    this.sending = new Map(); // cid -> the entry of a message that is not acknowledged
  }

  get nothing() {
    return this.log.children.length === 0;
  }

  // Who is here, as HELLO, JOIN, LEAVE and COUNT tell it. Of a crowd only the number is known.
  present({ type, sname, names, count }) {
    if (type === "HELLO") this.names = new Set(names);
    if (type === "JOIN") this.names.add(sname);
    if (type === "LEAVE") this.names.delete(sname);
    if (type === "COUNT") this.names = new Set();
    if (count !== undefined) this.count = count;
  }
}

// A name has the same colour for everybody.
export function hue(sname) {
  let sum = 0;
  for (const character of sname) sum = (sum * 31 + character.codePointAt(0)) % 3600;
  return sum / 10;
}

export function nameOf(sname) {
  const element = document.createElement("bdi");
  element.className = "name";
  element.style.setProperty("--hue", hue(sname));
  element.textContent = sname;
  return element;
}

export function randomName(length) {
  const letters = "abcdefghjkmnpqrstuvwxyz23456789";
  const bytes = crypto.getRandomValues(new Uint8Array(length));
  return Array.from(bytes, (byte) => letters[byte % letters.length]).join("");
}

// Storage may be switched off; then nothing is remembered.
export function remembered(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

export function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    /* then not */
  }
}
