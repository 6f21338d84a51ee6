// What a script adds: pages refresh themselves, ages count on, times are in a time zone of choice, a theme, shortcuts, and
// a button cannot be pressed twice. Everything works without this file.
"use strict";

// Preferences stay in this browser. Where storing is not allowed they last for the page.
const preferences = (() => {
  const names = { theme: "auto", zone: "viewer", keys: "on" };
  const kept = {};
  const get = (name) => {
    try {
      return kept[name] ?? localStorage.getItem(`groupcast.${name}`) ?? names[name];
    } catch {
      return kept[name] ?? names[name];
    }
  };
  const set = (name, value) => {
    kept[name] = value;
    try {
      localStorage.setItem(`groupcast.${name}`, value);
    } catch {
      // It is kept for this page.
    }
  };
  return { get, set };
})();
// Before anything is painted.
document.documentElement.dataset.theme = preferences.get("theme");

document.addEventListener("DOMContentLoaded", () => {
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

  // Buttons that copy, where the browser lets a page copy.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    await navigator.clipboard.writeText(decodeURIComponent(button.dataset.copy));
    const label = button.firstChild;
    label.data = "Copied";
    setTimeout(() => (label.data = "Copy"), 2000);
  });

  // Buttons that tick every box of a form, or none when all are.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-select]");
    if (!button) return;
    const boxes = [...document.querySelectorAll(`input[type=checkbox][form="${button.dataset.select}"]`)];
    const all = boxes.every((box) => box.checked);
    for (const box of boxes) box.checked = !all;
  });

  // Keyboard shortcuts, unless they are switched off or meant for a field.
  const shortcuts = [["/", "Search this page"], ["g o", "Go to the overview"], ["g r", "Go to the runs"],
    ["g x", "Go to the rejected groups"], ["?", "Show this list"]];
  const places = { o: "/", r: "/runs", x: "/rejected" };
  const element = (name, text = "") => Object.assign(document.createElement(name), { textContent: text });
  const help = () => {
    if (document.querySelector("dialog")) return;
    const [dialog, list, form, close] = [element("dialog"), element("dl"), element("form"), element("button", "Close")];
    const heading = Object.assign(element("h2", "Keyboard shortcuts"), { id: "shortcuts-h" });
    dialog.setAttribute("aria-labelledby", heading.id);
    form.method = "dialog";
    for (const [keys, what] of shortcuts) {
      const term = element("dt");
      for (const key of keys.split(" ")) term.append(element("kbd", key), " ");
      list.append(term, element("dd", what));
    }
    form.append(close);
    dialog.append(heading, list, form);
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  };
  let [before, pressed] = ["", 0];
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea, dialog");
    if (typing || event.ctrlKey || event.metaKey || event.altKey || preferences.get("keys") === "off") return;
    const after = before === "g" && event.timeStamp - pressed < 1500;
    [before, pressed] = [event.key, event.timeStamp];
    if (after && places[event.key]) {
      location.assign(places[event.key]);
    } else if (event.key === "/") {
      const field = document.querySelector("main [role=search] input:not([type=hidden])");
      if (!field) return;
      event.preventDefault();
      field.focus();
      field.select();
    } else if (event.key === "?") {
      help();
    }
  });

  // Ages count on by themselves, by the daemon's clock.
  const main = document.getElementById("main");
  if (!main) return;
  const ahead = Date.parse(main.dataset.now) - Date.now();

  // Times in the viewer's zone, in UTC, or as the schedules have them.
  const forms = {
    second: { second: "2-digit" },
    minute: {},
    weekday: { weekday: "short" },
  };
  const clock = (at, form, timeZone) => {
    const format = { timeZone, day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23", timeZoneName: "short" };
    const parts = new Intl.DateTimeFormat("en-GB", { ...format, ...forms[form] }).formatToParts(at);
    const part = Object.fromEntries(parts.map(({ type, value }) => [type, value]));
    const year = at.getFullYear() === new Date().getFullYear() ? [] : [part.year];
    const time = [part.hour, part.minute, ...(part.second ? [part.second] : [])].join(":");
    return [...(part.weekday ? [part.weekday] : []), part.day, part.month, ...year, time, part.timeZoneName].join(" ");
  };
  // What the server wrote.
  const written = new WeakMap();
  const inZone = () => {
    const choice = preferences.get("zone");
    for (const time of document.querySelectorAll("time[data-form]")) {
      if (!written.has(time)) written.set(time, time.textContent);
      const { form } = time.dataset;
      let text = written.get(time);
      const zone = { viewer: undefined, utc: "UTC", schedule: main.dataset.zone }[choice];
      // Scheduled times are written in the zone of their schedules.
      if (choice !== "schedule" || form !== "weekday") {
        try {
          text = clock(new Date(time.getAttribute("datetime")), form, zone);
        } catch {
          // The browser does not know the zone.
        }
      }
      if (time.textContent !== text) time.textContent = text;
    }
  };
  const complete = () => {
    inZone();
    for (const button of document.querySelectorAll("button[data-select]")) button.hidden = false;
    if (navigator.clipboard) for (const button of document.querySelectorAll("button[data-copy]")) button.hidden = false;
  };
  for (const field of document.querySelectorAll("[data-preference]")) {
    field.value = preferences.get(field.dataset.preference);
    field.addEventListener("change", () => {
      preferences.set(field.dataset.preference, field.value);
      document.documentElement.dataset.theme = preferences.get("theme");
      inZone();
    });
  }
  const shown = document.querySelector(".prefs");
  if (shown) shown.hidden = false;
  complete();

  // The same words as `format::relative` of the server.
  const relative = (apart) => {
    const seconds = Math.abs(apart);
    if (seconds < 5) return "just now";
    const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60)];
    let text = `${Math.floor(hours / 24)} d`;
    if (seconds < 60) text = `${Math.floor(seconds)} s`;
    else if (seconds < 3600) text = `${minutes} min`;
    else if (seconds < 36000 && minutes % 60) text = `${hours} h ${minutes % 60} min`;
    else if (seconds < 172800) text = `${hours} h`;
    return apart > 0 ? `${text} ago` : `in ${text}`;
  };
  const tick = () => {
    if (document.hidden) return;
    const now = Date.now() + ahead;
    for (const age of document.querySelectorAll("[data-age]")) {
      const text = relative((now - Date.parse(age.dataset.age)) / 1000);
      if (age.textContent !== text) age.textContent = text;
    }
  };
  setInterval(tick, 1000);

  // Refresh: fetch this page and replace the parts that differ.
  if (!main.dataset.refresh) return;

  // A part is not replaced while it is in use: focused, selected, opened or filled in.
  const edited = (field) => {
    if (field.type === "checkbox") return field.checked !== field.defaultChecked;
    if (field.tagName !== "SELECT") return field.value !== field.defaultValue;
    return field.selectedIndex !== Math.max([...field.options].findIndex((option) => option.defaultSelected), 0);
  };
  const inUse = (part) => {
    const selection = getSelection();
    return (part.contains(document.activeElement) && document.activeElement !== part)
      || (!selection.isCollapsed && selection.containsNode(part, true))
      || part.querySelector("details[open]")
      || [...part.querySelectorAll("input:not([type=hidden]), select")].some(edited);
  };
  const put = (part, next) => {
    if (part.isEqualNode(next) || inUse(part)) return;
    const scrolled = [...part.querySelectorAll(".scroll")].map((region) => region.scrollLeft);
    part.replaceWith(next);
    next.querySelectorAll(".scroll").forEach((region, index) => (region.scrollLeft = scrolled[index] ?? 0));
  };
  const kind = (part) => `${part.tagName} ${part.id} ${part.className}`;

  const refresh = async () => {
    const response = await fetch(location.href, { headers: { accept: "text/html" }, redirect: "manual" });
    const fresh = response.ok && new DOMParser().parseFromString(await response.text(), "text/html");
    const next = fresh && fresh.getElementById("main");
    const script = (page) => page.querySelector("script[src]")?.getAttribute("src");
    // The session has ended (the login page leads back here), or the daemon is another version.
    if (response.type === "opaqueredirect" || (fresh && script(fresh) !== script(document))) {
      location.reload();
      return;
    }
    if (!next) throw new Error(String(response.status));
    const [parts, others] = [[...main.children], [...next.children]];
    if (parts.map(kind).join() === others.map(kind).join()) parts.forEach((part, index) => put(part, others[index]));
    else if (!inUse(main)) main.replaceChildren(...others);
    else for (const part of parts) if (part.id && fresh.getElementById(part.id)) put(part, fresh.getElementById(part.id));
    document.title = fresh.title;
    Object.assign(main.dataset, { refresh: next.dataset.refresh, version: next.dataset.version ?? "" });
    complete();
    tick();
  };

  // Every two seconds while something is in progress; else when the daemon reports a change, and once a minute for what
  // changes with time alone. Without reports every 15 seconds; while the daemon does not respond, less and less often.
  let [failures, timer, running, events, reported] = [0, 0, false, null, 0];
  const connected = () => events?.readyState === 1;
  const pause = () => {
    const usual = main.dataset.refresh === "often" ? 2000 : connected() ? 60000 : 15000;
    return Math.min(usual * 2 ** failures, 60000);
  };
  const turn = async () => {
    clearTimeout(timer);
    if (running || document.hidden) return;
    running = true;
    try {
      await refresh();
      failures = 0;
    } catch {
      failures += 1;
    }
    running = false;
    clearTimeout(timer);
    // A change that was reported meanwhile may be missing in what was fetched.
    timer = setTimeout(turn, !failures && reported > Number(main.dataset.version) ? 300 : pause());
  };

  // A hidden page holds no connection: a browser has six for all tabs.
  const listen = () => {
    if (events || document.hidden || !window.EventSource) return;
    events = new EventSource("/events");
    events.addEventListener("change", (event) => {
      reported = Number(event.data);
      if (event.data !== main.dataset.version) turn();
    });
    events.addEventListener("open", () => {
      clearTimeout(timer);
      timer = setTimeout(turn, pause());
    });
    // When the daemon is back it may be another one, which counts from the beginning.
    events.addEventListener("error", () => {
      [main.dataset.version, reported] = ["", 0];
      clearTimeout(timer);
      timer = setTimeout(turn, pause());
    });
  };
  const stop = () => {
    events?.close();
    events = null;
    clearTimeout(timer);
  };
  document.addEventListener("visibilitychange", () => {
    stop();
    if (document.hidden) return;
    listen();
    turn();
  });
  window.addEventListener("pagehide", stop);
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    listen();
    turn();
  });
  listen();
  timer = setTimeout(turn, pause());
});
