// Keeps an open page true: told that something is new, it asks for itself again and changes the parts that differ.
"use strict";

const body = document.body;
const live = document.getElementById("live");
const LEAST = 1000; // milliseconds between two askings
let wanted = body.dataset.stamp; // what the store has
let shown = body.dataset.stamp; // what the page shows
let asked = 0;
let timer = null;

function say(words) {
  if (live && live.textContent !== words) live.textContent = words;
}

/** Puts the new parts in place of the old: whoever had the focus keeps it, what was open stays open. */
function replace(fresh) {
  const focus = document.activeElement && document.activeElement.id;
  for (const part of document.querySelectorAll("[data-live]")) {
    const other = fresh.getElementById(part.id);
    if (!other || other.innerHTML === part.innerHTML) continue;
    const open = [...part.querySelectorAll("details[open][id]")].map((one) => one.id);
    part.replaceWith(document.adoptNode(other));
    open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
    other.dispatchEvent(new CustomEvent("replaced", { bubbles: true }));
  }
  if (focus && document.activeElement.id !== focus) document.getElementById(focus)?.focus({ preventScroll: true });
}

async function refresh() {
  timer = null;
  if (document.hidden || wanted === shown) return;
  asked = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!answer.ok) throw new Error(String(answer.status));
    replace(fresh);
    shown = fresh.body.dataset.stamp;
    say(`live, as of ${new Date().toLocaleTimeString()}`);
  } catch {
    say("cannot be brought up to date; trying again");
    timer = setTimeout(refresh, 5000);
  }
}

function soon() {
  if (timer === null) timer = setTimeout(refresh, Math.max(0, asked + LEAST - Date.now()));
}

if (body.dataset.events) {
  const source = new EventSource(body.dataset.events);
  source.addEventListener("open", () => say("live"));
  source.addEventListener("error", () => say("connection lost; trying again"));
  source.addEventListener("message", (event) => {
    wanted = event.data;
    soon();
  });
  document.addEventListener("visibilitychange", soon);
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

// A filter takes effect as soon as it is chosen; what is left empty does not clutter the address.
for (const form of document.querySelectorAll("form.trials-filter")) {
  form.addEventListener("change", (event) => event.target.matches("select") && form.requestSubmit());
  form.addEventListener("submit", () => {
    for (const field of form.querySelectorAll("input, select")) field.disabled = field.value === "";
  });
}
