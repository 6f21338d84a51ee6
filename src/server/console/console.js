// What a script adds: a page is refreshed while a run is in progress, and a button cannot be pressed twice.
// Everything works without this file.
"use strict";

(() => {
  // Forms are sent once. Their buttons stay disabled until the page is shown again from the browser's history.
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

  // Slow links show that they are loading.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-slow]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0) return;
    link.dataset.label = link.textContent;
    link.textContent = link.dataset.slow;
    link.setAttribute("aria-busy", "true");
  });

  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("button")) button.disabled = false;
    }
    for (const link of document.querySelectorAll("a[data-label]")) {
      link.textContent = link.dataset.label;
      link.removeAttribute("aria-busy");
    }
  });

  // Refresh: fetch this page and replace the live parts.
  const every = Number(document.body.dataset.refresh);
  if (!every) return;

  // A part in use (focused, or with something opened) is not replaced.
  const inUse = (part) =>
    (part.contains(document.activeElement) && document.activeElement !== part) || part.querySelector("details[open]");
  const live = (page) => [...page.querySelectorAll("[data-live][id]")];
  const ids = (page) => live(page).map((part) => part.id).join(" ");

  const refresh = async () => {
    if (document.hidden) return true;
    const response = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
    // The session has ended: the login page leads back here.
    if (response.type === "opaqueredirect") {
      location.reload();
      return false;
    }
    if (!response.ok) throw new Error(String(response.status));
    const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
    const finished = !fresh.body.dataset.refresh;
    // When a run starts or finishes, more than the live parts changes.
    if ((finished || ids(fresh) !== ids(document)) && !inUse(document.getElementById("main"))) {
      location.reload();
      return false;
    }
    for (const part of live(document)) {
      const next = fresh.getElementById(part.id);
      if (!next || inUse(part) || part.isEqualNode(next)) continue;
      const scrolled = [...part.querySelectorAll(".scroll")].map((region) => region.scrollLeft);
      part.replaceChildren(...next.childNodes);
      part.querySelectorAll(".scroll").forEach((region, index) => (region.scrollLeft = scrolled[index] ?? 0));
    }
    return !finished;
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
    // While the daemon does not respond, refresh less and less often, at least once a minute.
    if (again) setTimeout(turn, Math.min(every * 2 ** failures, 60000));
  };
  setTimeout(turn, every);
})();
