// From a message's text to nodes: links, emoticons and line breaks. Text stays text: every node is
// made by createElement or createTextNode, so nothing in a message can become markup.

// What people type, and what they mean; the first of each is what the picker inserts.
export const EMOTICONS = [
  ["🙂", ":)", ":-)", "=)"],
  ["😄", ":D", ":-D", "=D"],
  ["😉", ";)", ";-)", "^_-", "~_-", "-_^", "-_~"],
  ["😛", ":P", ":p", ":-P", ":-p", "=P", ";P", ";-P"],
  ["😆", "XD"],
  ["😝", "XP"],
  ["😎", "B)"],
  ["😊", "^_^", "^^"],
  ["😅", "^_^;", "^^;"],
  ["🙋", "o/", "(^_^)/"],
  ["🤗", "<(^.^)>", "(>'.')>", "(>^.^)>"],
  ["🥳", "\\(o^_^o)"],
  ["😈", ">:)", ">:D"],
  ["🙁", ":(", ":-(", "=("],
  ["😢", ";_;", ":'("],
  ["😭", "T_T"],
  ["😡", ">:(", ">:["],
  ["😞", ":[", "=["],
  ["😕", ":-/", "=/", ":\\", "=\\"],
  ["😖", ":S", "=S"],
  ["😣", ">_<"],
  ["😒", "<_<", ">_>"],
  ["😑", "-_-"],
  ["😓", "-_-;"],
  ["😐", ":|", "=|", ":x", "=x", "'_'"],
  ["😶", "._.", "._.;"],
  ["😮", ":O", ":o", "=O", "=o"],
  ["🤨", "o_O", "O_o", "o_0", "0_o"],
  ["😵", "x_x"],
  ["😺", ":3", "=3"],
  ["🐦", "('<"],
];

const MEANING = new Map(EMOTICONS.flatMap(([emoji, ...typed]) => typed.map((each) => [each, emoji])));

// An emoticon stands between blanks (so "http://" and "XPath" are left alone).
const WORDS = /(\s+)/;
const LINK = /^(?:https?:\/\/|www\.)[^\s<>"]+/i;
// What ends a sentence or closes a bracket after a link is not part of it.
const TRAILING = /[.,:;!?'"\])}]+$/;
const OPENING = /^[(["'{]+/;

export function render(text) {
  const fragment = document.createDocumentFragment();
  const add = (...nodes) => fragment.append(...nodes);
  text.split("\n").forEach((line, index) => {
    if (index) add(document.createElement("br"));
    for (const word of line.split(WORDS)) add(...renderWord(word));
  });
  fragment.normalize();
  return fragment;
}

function renderWord(word) {
  const emoji = MEANING.get(word);
  if (emoji) return [emoticon(emoji, word)];
  const before = word.match(OPENING)?.[0] ?? "";
  const rest = word.slice(before.length);
  if (!LINK.test(rest)) return [word];
  const after = trailing(rest);
  const address = rest.slice(0, rest.length - after.length);
  const anchor = link(address);
  return anchor ? [before, anchor, after] : [word];
}

// A closing bracket belongs to the address when the address opened it: …/Comet_(programming).
function trailing(address) {
  let after = address.match(TRAILING)?.[0] ?? "";
  const kept = address.slice(0, address.length - after.length);
  const open = kept.split("(").length - kept.split(")").length;
  if (open > 0 && after.startsWith(")")) after = after.slice(1);
  return after;
}

function link(address) {
  let url;
  try {
    url = new URL(/^www\./i.test(address) ? `https://${address}` : address);
  } catch {
    return null;
  }
  if (url.protocol !== "https:" && url.protocol !== "http:") return null;
  const anchor = document.createElement("a");
  anchor.href = url.href;
  anchor.textContent = address;
  anchor.target = "_blank";
  anchor.rel = "noopener noreferrer nofollow ugc";
  return anchor;
}

function emoticon(emoji, typed) {
  const span = document.createElement("span");
  span.className = "emoticon";
  span.textContent = emoji;
  span.title = typed;
  return span;
}
