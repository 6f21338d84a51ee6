// What is nicer with a script? A page about a run under way stays fresh, and a button is not pressed twice.
// Everything works without this file.
"use strict";

(() => {
  // Forms: one order per press. Left disabled only until the page is shown again from the browser's history.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "1";
    for (const button of form.querySelectorAll("button")) button.disabled = true;
  });

  // Links that take a while say so.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-slow]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    link.dataset.words = link.textContent;
    link.textContent = link.dataset.slow;
    link.setAttribute("aria-busy", "true");
  });

  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("button")) button.disabled = false;
    }
    for (const link of document.querySelectorAll("a[data-words]")) {
      link.textContent = link.dataset.words;
      link.removeAttribute("aria-busy");
    }
  });

  // Freshness: fetch this page, put its live parts in place of ours.
  const every = Number(document.body.dataset.refresh);
  if (!every) return;

  // Nobody loses what they hold, type or read.
  const held = (part) =>
    (part.contains(document.activeElement) && document.activeElement !== part) || part.querySelector("details[open]");
  const live = (page) => [...page.querySelectorAll("[data-live][id]")];
  const ids = (page) => live(page).map((part) => part.id).join(" ");

  const refresh = async () => {
    if (document.hidden) return true;
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "error" });
    if (!answer.ok) throw new Error(String(answer.status));
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const ended = !fresh.body.dataset.refresh;
    // When a run begins or ends, more of the page has something else to tell than its live parts.
    if ((ended || ids(fresh) !== ids(document)) && !held(document.getElementById("main"))) {
      location.reload();
      return false;
    }
    for (const part of live(document)) {
      const next = fresh.getElementById(part.id);
      if (!next || held(part) || part.isEqualNode(next)) continue;
      const scrolled = [...part.querySelectorAll(".scroll")].map((region) => region.scrollLeft);
      part.replaceChildren(...next.childNodes);
      part.querySelectorAll(".scroll").forEach((region, index) => (region.scrollLeft = scrolled[index] ?? 0));
    }
    return !ended;
  };

  let failures = 0;
  const turn = async () => {
    let again = true;
    try {
      again = await refresh();
      failures = 0;
    } catch {
      failures += 1;
    }
    // A daemon that does not answer is asked less and less often, at least once a minute.
    if (again) setTimeout(turn, Math.min(every * 2 ** failures, 60000));
  };
  setTimeout(turn, every);
})();
