// Renews the page in place: often while something runs, seldom otherwise, never while hidden.
"use strict";
function opened() {
  return new Map([...document.querySelectorAll("details")].map((d) => [d.id, d.open]));
}
function busyWriting() {
  return document.activeElement && document.activeElement.matches("input, select, button");
}
async function renew() {
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    const text = await answer.text();
    const part = text.slice(text.indexOf("<main"), text.lastIndexOf("</main>") + 7);
    const main = new DOMParser().parseFromString(part, "text/html").querySelector("main");
    if (answer.ok && main && !busyWriting()) {
      const before = opened();
      document.querySelector("main").replaceWith(main);
      document.querySelectorAll("details").forEach((d) => {
        if (before.has(d.id)) d.open = before.get(d.id);
      });
    }
    document.body.classList.toggle("stale", !answer.ok);
  } catch {
    document.body.classList.add("stale");
  }
  later();
}
function later() {
  const active = document.querySelector("main").dataset.active === "yes";
  setTimeout(() => (document.hidden ? later() : renew()), active ? 2000 : 10000);
}
later();
