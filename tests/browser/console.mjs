// Does a real browser find anything wrong with the console? Every page is opened in light, dark and on a phone; each is
// held to the rules of axe-core, may not complain on the browser's console (which is where a breach of the content
// security policy shows), and may not scroll sideways. Then the console is used: with a script, without, by keyboard.
//
//   node console.mjs NODE_MODULES CHROMIUM ADDRESS SCREENSHOT_FOLDER
//
// Pages are found by following links from the overview, so this works against any daemon; steps of the scenario that a
// daemon offers no occasion for (no guard stopped a run) are said to be left out. The environment may say more:
//
//   GROUPCAST_TOKEN      what lets the visitor in
//   GROUPCAST_DOES       which of `policy look use login` is done; all of them by default
//   GROUPCAST_PAGES      `NAME=PATH NAME=PATH`: these pages instead of all; a name that ends in a status expects it
//   GROUPCAST_LEAVE_OUT  `nothing`: a step without an occasion is a complaint

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, executablePath, address, shots] = process.argv.slice(2);
const require = createRequire(join(modules, "anything.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const token = process.env.GROUPCAST_TOKEN;
const does = new Set((process.env.GROUPCAST_DOES || "policy look use login").split(" "));
const strict = process.env.GROUPCAST_LEAVE_OUT === "nothing";

const LOOKS = {
  light: { viewport: { width: 1280, height: 900 }, colorScheme: "light" },
  dark: { viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
  phone: { viewport: { width: 360, height: 740 }, colorScheme: "light", deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  "phone-dark": { viewport: { width: 360, height: 740 }, colorScheme: "dark", deviceScaleFactor: 2, isMobile: true, hasTouch: true },
};
// What a page may be like: the first link that fits each is opened, and every sync.
const KINDS = {
  group: /^\/syncs\/[^/]+\/groups\?key=/,
  plan: /^\/syncs\/[^/]+\/plan$/,
  older: /^\/runs\?before=/,
  rejected: /^\/rejected$/,
  runs: /^\/runs$/,
};

const complaints = [];
const complain = (where, what) => {
  complaints.push(`${where}: ${what}`);
  console.error(`  ${where}: ${what}`);
};

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

async function visitor(look, { outside, ...more } = {}) {
  const context = await browser.newContext({ ...LOOKS[look], reducedMotion: "reduce", baseURL: address, ...more });
  const page = await context.newPage();
  page.expected = 200;
  page.on("console", (message) => {
    // A page that says "not found" is logged as an error too, where one was asked for.
    const asked = page.expected >= 400 && message.text().includes(String(page.expected));
    if (["error", "warning"].includes(message.type()) && !asked)
      complain(`${look} ${page.url()}`, `the browser says: ${message.text()}`);
  });
  page.on("pageerror", (error) => complain(`${look} ${page.url()}`, `the script fails: ${error}`));
  if (token && !outside) await logIn(page, token);
  return { context, page };
}

async function logIn(page, shown, next = "/") {
  await page.goto(`/login?next=${encodeURIComponent(next)}`);
  await page.getByLabel("Token").fill(shown);
  await page.getByRole("button", { name: "Log in" }).click();
}

/** The status that a page is to have: its name says so where it is not 200. */
const statusOf = (kind) => Number(/-([45]\d\d)$/.exec(kind)?.[1] ?? 200);

const links = (page) =>
  page.$$eval("a[href^='/']", (all) => all.map((link) => link.getAttribute("href").split("#")[0]));

/** One page of each kind, every sync, and runs of every status that can be seen. */
async function survey() {
  const { context, page } = await visitor("light");
  const pages = new Map([["overview", "/"], ["login", "/login?failed=1&next=/runs"], ["no-sync-404", "/syncs/there-is-none"],
    ["no-run-404", "/runs/there-is-none"], ["no-page-404", "/there/is/none"], ["no-older-runs", "/runs?before=0"]]);
  const seen = [];
  const read = async (path) => {
    await page.goto(path);
    seen.push(...(await links(page)));
  };
  await read("/");
  const syncs = [...new Set(seen.filter((path) => /^\/syncs\/[^/?]+$/.test(path)))];
  for (const [index, path] of syncs.entries()) {
    pages.set(`sync-${index}-${decodeURIComponent(path.slice(7)).replace(/[^a-z0-9]+/gi, "-")}`, path);
    await read(path);
  }
  await read("/runs");
  await read("/rejected");
  // Runs by their badge, as a person would choose them.
  for (const from of ["/runs", ...syncs]) {
    await page.goto(from);
    const rows = await page.$$eval("#runs tbody tr", (all) =>
      all.map((row) => [row.querySelector(".badge").textContent.replace(/[^a-z]+/gi, "-").replace(/^-|-$/g, ""),
        row.querySelector("a[href^='/runs/']").getAttribute("href")]));
    for (const [status, path] of rows) if (!pages.has(`run-${status}`)) pages.set(`run-${status}`, path);
  }
  for (const path of syncs) {
    await page.goto(path);
    const waits = page.locator("#now").getByRole("link", { name: "A run waits" });
    if (!pages.has("run-waiting") && (await waits.count())) pages.set("run-waiting", await waits.getAttribute("href"));
    const last = page.locator("#runs tbody tr").first();
    // Nothing was ever said of a group of this name, and where the model cannot be read there is no plan.
    if ((await last.count()) && !pages.has("no-group-404")) pages.set("no-group-404", `${path}/groups?key=nobody`);
    if (!pages.has("no-plan-500") && (await last.locator(".badge", { hasText: "failed" }).count())) pages.set("no-plan-500", `${path}/plan`);
    if (await page.getByText("Accept and run…").count()) pages.set("plan-guarded", `${path}/plan`);
    if (/^\/syncs\/changes$/.test(path)) pages.set("plan-of-changes", `${path}/plan`);
  }
  for (const [kind, pattern] of Object.entries(KINDS)) {
    const path = seen.find((path) => pattern.test(path));
    if (path) pages.set(kind, path);
  }
  await context.close();
  return pages;
}

async function inspect(page, where) {
  await page.evaluate(axe);
  const found = await page.evaluate(() =>
    window.axe.run(document, {
      runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
      resultTypes: ["violations"],
    }));
  for (const broken of found.violations)
    for (const node of broken.nodes) complain(where, `${broken.id}: ${node.html.slice(0, 200)} (${node.failureSummary})`);
  const wide = await page.evaluate(() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return null;
    const out = [...document.querySelectorAll("main *")].filter((node) => node.getBoundingClientRect().right > room + 1 && !node.closest(".scroll"));
    return `${document.documentElement.scrollWidth} of ${room} px: ${out.slice(0, 3).map((node) => node.outerHTML.slice(0, 90)).join(" | ")}`;
  });
  if (wide) complain(where, `the page scrolls sideways, ${wide}`);
  const small = await page.evaluate(() =>
    [...document.querySelectorAll("button, .button, select, input:not([type=hidden], [type=checkbox])")]
      .filter((node) => node.getClientRects().length && node.getBoundingClientRect().height < 40)
      .map((node) => node.outerHTML.slice(0, 90)));
  for (const html of small) complain(where, `too small for a finger: ${html}`);
}

async function look(pages) {
  for (const name of Object.keys(LOOKS)) {
    // The policy would keep the rules' own script out; what the page itself does is tried without this below.
    const { context, page } = await visitor(name, { bypassCSP: true });
    for (const [kind, path] of pages) {
      page.expected = statusOf(kind);
      const answer = await page.goto(path);
      if (answer.status() !== page.expected) complain(`${name} ${path}`, `status ${answer.status()}`);
      await inspect(page, `${name} ${kind}`);
      await page.screenshot({ path: join(shots, `${kind}.${name}.png`), fullPage: true });
      // What is behind a click is held to the same.
      if (await page.evaluate(() => [...document.querySelectorAll("details")].map((node) => (node.open = true)).length)) {
        await inspect(page, `${name} ${kind}, opened`);
        await page.screenshot({ path: join(shots, `${kind}.${name}.opened.png`), fullPage: true });
      }
    }
    await context.close();
  }
}

/** The policy in force, a look at each page: a breach shows on the browser's console. */
async function keepThePolicy(pages) {
  const { context, page } = await visitor("light");
  for (const [kind, path] of pages) {
    page.expected = statusOf(kind);
    const answer = await page.goto(path);
    if (!(answer.headers()["content-security-policy"] ?? "").includes("default-src 'none'")) complain(kind, "no policy");
    const styled = await page.evaluate(() => getComputedStyle(document.body).margin === "0px");
    if (!styled) complain(kind, "the style sheet was not taken");
  }
  await context.close();
}

const fail = (what) => {
  throw new Error(what);
};
const button = (page, name) => page.getByRole("button", { name });
const state = async (page) => (await page.locator("h1 .badge").allTextContents()).join(" ").replace(/[^a-z ]+/gi, "").trim();

/** Waits until a run's page tells how it ended; without a script somebody has to ask. */
async function ended(page) {
  const counts = page.getByRole("heading", { name: "Counts" });
  if (page.javaScript) {
    await counts.waitFor({ timeout: 60_000 });
  } else {
    for (let turn = 0; turn < 120 && !(await counts.count()); turn += 1) {
      await page.waitForTimeout(250);
      await page.reload();
    }
  }
  const terms = await page.$$eval(".sum:first-of-type .term b", (all) => all.map((node) => Number(node.textContent.replaceAll(",", ""))));
  if (terms.length !== 6 || terms[0] !== terms.slice(1).reduce((sum, term) => sum + term, 0)) fail(`${terms} do not add up`);
  return state(page);
}

const STEPS = {
  "the first press of Tab offers to skip to the content": async (page) => {
    await page.goto("/");
    await page.keyboard.press("Tab");
    const skip = page.getByRole("link", { name: "Skip to the content" });
    if (!(await skip.evaluate((node) => node === document.activeElement && node.getBoundingClientRect().top >= 0)))
      fail("it is not there");
    await page.keyboard.press("Enter");
    if (!(await page.evaluate(() => document.activeElement.id === "main"))) fail("it leads nowhere");
  },
  "a run is ordered, watched until it ends, and listed": async (page, pages) => {
    const path = await syncThatMayRun(page, pages);
    if (!path) return "no sync is free to run";
    await page.goto(path);
    await button(page, "Run now").click();
    await page.waitForURL(/\/runs\//);
    const started = page.url();
    // Nothing is pressed: the page keeps itself fresh, and its end shows the counts.
    await ended(page);
    if (page.url() !== started) fail(`it went to ${page.url()}`);
    await page.goto("/runs");
    const listed = page.locator(`#runs tbody tr:has(a[href="${new URL(started).pathname}"])`);
    if (!(await listed.innerText()).includes("console")) fail("the list does not say who started it");
  },
  "going back after an order leaves buttons that can be pressed": async (page, pages) => {
    const path = await syncThatMayRun(page, pages);
    if (!path) return "no sync is free to run";
    await page.goto(path);
    await button(page, "Run now").click();
    await page.waitForURL(/\/runs\//);
    await page.goBack();
    if (!page.url().endsWith(path)) fail(`back leads to ${page.url()}`);
    await button(page, "Run now").click({ timeout: 5_000 });
    await page.waitForURL(/\/runs\//);
    await ended(page);
    await page.goBack();
    await page.goForward();
    await page.getByRole("heading", { name: "Counts" }).waitFor();
  },
  "a group is opened by its key": async (page, pages) => {
    const path = pages.get("group");
    if (!path) return "no group is linked";
    const [sync, query] = path.split("/groups?");
    // What it was sent is what it says, except for characters that a box of one line cannot hold.
    const key = new URLSearchParams(query).get("key");
    if (/[\0\r\n]/.test(key)) return "the first key has line breaks";
    await page.goto(sync);
    await page.getByLabel("Open a group by its key").fill(key);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "What the destination holds" }).waitFor();
  },
  "a group is opened from a run, and tells of each trait what was sent, when, and by which run": async (page, pages) => {
    for (const path of [...pages].filter(([kind]) => /^run-(delivered|some)/.test(kind)).map(([, path]) => path)) {
      await page.goto(`${path}?outcome=delivered`);
      const group = page.locator("#said-table tbody tr a").first();
      if (!(await group.count())) continue;
      const key = await group.innerText();
      await group.click();
      if (!(await page.locator("h1").innerText()).includes(key)) fail(`it is not the page of ${key}`);
      const rows = await page.locator("#traits tbody tr").all();
      if (!rows.length) fail("no traits");
      for (const row of rows) {
        const [name, value, when, run] = await row.locator("th, td").allInnerTexts();
        if (!name.trim() || !value.trim() || !/UTC/.test(when) || !/\d{8}T/.test(run)) fail(`${name}: ${value}, ${when}, ${run}`);
      }
      await rows[0].locator("a[href^='/runs/']").click();
      await page.getByRole("heading", { name: /^Run of/ }).waitFor();
      return;
    }
    return "no run delivered a group";
  },
  "every group that a page names can be opened": async (page, pages) => {
    const groups = new Set();
    for (const path of [...pages].filter(([kind]) => statusOf(kind) === 200).map(([, path]) => path)) {
      await page.goto(path);
      for (const href of await links(page)) if (KINDS.group.test(href)) groups.add(href);
    }
    if (!groups.size) return "no group is linked";
    for (const href of [...groups].slice(0, 60)) {
      const answer = await page.goto(href);
      if (answer.status() !== 200) fail(`${href}: ${answer.status()}`);
      if (await page.evaluate(() => document.querySelector("main script, main img, main i") !== null)) fail(`${href} has foreign markup`);
    }
  },
  "a plan is made when it is asked for, old and new": async (page, pages) => {
    const path = pages.get("plan-of-changes");
    if (!path) return "no sync is called `changes`";
    await page.goto(path.replace(/\/plan$/, ""));
    await page.getByRole("link", { name: "Plan", exact: true }).click();
    await page.getByRole("heading", { name: "Changes", exact: true }).waitFor();
    const swap = page.locator(".planned.swap li.swap").first();
    const [old, fresh] = [await swap.locator("del").innerText(), await swap.locator("ins").innerText()];
    if (!old || !fresh || old === fresh) fail(`${old} → ${fresh}`);
    for (const tone of ["add", "cut"]) if (!(await page.locator(`.planned.${tone}`).count())) fail(`nothing is marked ${tone}`);
    await page.getByLabel("the whole model").check();
    await button(page, "Plan again").click();
    await page.waitForURL(/full=1/);
    await page.getByText("from the whole model").waitFor();
  },
  "a sync is paused and resumed": async (page, pages) => {
    const path = await syncThatMayRun(page, pages);
    if (!path) return "no sync is free";
    await page.goto(path);
    await button(page, "Pause").click();
    await button(page, "Resume").waitFor();
    if (!(await state(page)).includes("paused")) fail(`it says ${await state(page)}`);
    await button(page, "Resume").click();
    await button(page, "Pause").waitFor();
  },
  "a guard is accepted, but not without ticking its figures": async (page) => {
    await page.goto("/");
    const look = page.locator("#attention").getByRole("link", { name: /^Look at the guard/ });
    if (!(await look.count())) return "no guard stopped a run";
    await look.first().click();
    const summary = page.getByText("Accept and run…");
    await summary.click();
    const before = page.url();
    await button(page, "Accept once and run").click();
    if (page.url() !== before) fail("it ran without a tick");
    await page.getByRole("checkbox").first().check();
    await button(page, "Accept once and run").click();
    await page.waitForURL(/\/runs\//);
    const now = await ended(page);
    if (now !== "delivered") fail(`it ended: ${now}`);
  },
  "rejected groups are tried again, and the destination's words are shown": async (page) => {
    await page.goto("/rejected");
    const retry = button(page, /^Retry the rejected of/).first();
    if (!(await retry.count())) return "nothing is rejected";
    await retry.click();
    await page.waitForURL(/\/runs\//);
    const now = await ended(page);
    if (now !== "some rejected" && now !== "delivered") fail(`it ended: ${now}`);
    if (now === "some rejected") {
      const words = await page.locator("#rejections .message").first().innerText();
      if (words.trim().length < 5) fail(`its words: ${words}`);
    }
  },
  "an order given twice is one run, which can be taken back": async (page) => {
    const path = await underWay(page);
    if (!path) return "no run is under way";
    const order = async () => {
      await page.goto(path);
      await button(page, "Run now").click();
      await page.waitForURL((url) => !url.pathname.endsWith(path));
    };
    await page.goto(path);
    if (await page.getByRole("link", { name: "A run waits" }).count()) {
      await page.getByRole("link", { name: "A run waits" }).click();
      await button(page, "Take it back").click();
      await page.waitForURL((url) => url.pathname === path);
    }
    await order();
    const first = new URL(page.url()).pathname;
    if (!(await state(page)).includes("waiting")) fail(`it says ${await state(page)}`);
    await order();
    if (new URL(page.url()).pathname !== first) fail(`${page.url()} is another run`);
    await page.getByText("An equal run was already waiting").waitFor();
    await button(page, "Take it back").click();
    await page.waitForURL((url) => url.pathname === path);
    if (await page.getByRole("link", { name: "A run waits" }).count()) fail("it waits still");
    // For the step that follows, and for those who come after us.
    await order();
  },
  "a run under way shows how far it is, and is stopped": async (page) => {
    const path = await underWay(page);
    if (!path) return "no run is under way";
    await page.getByRole("link", { name: "Run under way" }).click();
    const settled = () => page.locator("progress").first().evaluate((node) => node.value);
    const before = await settled();
    for (let turn = 0; (await settled()) <= before; turn += 1) {
      if (turn > 100) fail(`it stays at ${before}`);
      await page.waitForTimeout(250);
      if (!page.javaScript) await page.getByRole("link", { name: "Refresh" }).click();
    }
    await button(page, "Stop this run").click();
    const now = await ended(page);
    if (now !== "incomplete") fail(`it ended: ${now}`);
  },
  "a form that no page of ours made is refused in words": async (page, pages) => {
    const path = await syncThatMayRun(page, pages);
    if (!path) return "no sync is free";
    await page.goto(path);
    if (!page.javaScript) return null;
    await page.evaluate(() => document.querySelectorAll("input[name=csrf]").forEach((field) => (field.value = "stale")));
    page.expected = 403;
    await button(page, "Pause").click();
    await page.getByText("not from a page of this session").waitFor();
    await page.screenshot({ path: join(shots, "refused-form.png"), fullPage: true });
    page.expected = 200;
  },
};

/** Logging in and out, as somebody who comes from outside. */
const AT_THE_DOOR = {
  "a page asks for the token and is shown after it": async (page) => {
    await page.goto("/runs?sync=accounts");
    if (!page.url().includes("/login")) fail(`it shows ${page.url()}`);
    await page.getByLabel("Token").fill("certainly-not-the-token");
    await button(page, "Log in").click();
    await page.getByRole("alert").waitFor();
    await page.getByLabel("Token").fill(token);
    await button(page, "Log in").click();
    await page.waitForURL(/\/runs\?sync=accounts$/);
  },
  "the cookie is for this site alone, and no script reads it": async (page, context) => {
    await logIn(page, token);
    const [cookie] = await context.cookies();
    if (!cookie.httpOnly || cookie.sameSite !== "Strict" || cookie.path !== "/" || cookie.domain.startsWith(".")) fail(JSON.stringify({ ...cookie, value: "…" }));
    if (await page.evaluate(() => document.cookie)) fail("a script can read it");
  },
  "nobody is led elsewhere by the address of the login page": async (page) => {
    for (const next of ["https://example.invalid/", "//example.invalid/", "/\\example.invalid", "/\t/example.invalid", "javascript:alert(1)"]) {
      await logIn(page, token, next);
      await page.getByRole("heading", { name: "Overview" }).waitFor();
      if (new URL(page.url()).origin !== new URL(address).origin) fail(`${next} leads to ${page.url()}`);
    }
  },
  "a form of a session that has ended is refused in words, and leads to the login": async (page, context) => {
    await logIn(page, token, "/syncs/accounts");
    await context.clearCookies();
    page.expected = 401;
    await button(page, "Pause").click();
    await page.getByText(/logged out|log in/i).first().waitFor();
    await page.screenshot({ path: join(shots, "session-ended.png"), fullPage: true });
    page.expected = 200;
    await page.getByRole("link", { name: /log in/i }).click();
    await page.getByLabel("Token").waitFor();
  },
  "who logs out has to log in again, also from the history": async (page) => {
    await logIn(page, token);
    await page.getByRole("link", { name: "Runs", exact: true }).click();
    await button(page, "Log out").click();
    await page.getByLabel("Token").waitFor();
    await page.goBack();
    if (await page.getByRole("heading", { name: "Runs" }).count()) fail("going back shows the page");
    await page.goto("/");
    await page.getByLabel("Token").waitFor();
  },
  "too many wrong tokens are answered in words": async (page) => {
    page.expected = 429;
    for (let turn = 0; turn < 12; turn += 1) await logIn(page, `wrong-token-number-${turn}`);
    await page.getByText(/too many/i).waitFor();
    await page.screenshot({ path: join(shots, "too-many.png"), fullPage: true });
  },
};

/** The sync of a run under way, with its page open. */
async function underWay(page) {
  await page.goto("/");
  const run = page.locator("#running article:has(progress) h3 a");
  if (!(await run.count())) return null;
  const name = await run.first().innerText();
  await page.locator("#all").getByRole("link", { name, exact: true }).click();
  return new URL(page.url()).pathname;
}

async function syncThatMayRun(page, pages) {
  for (const path of [...pages].filter(([kind]) => kind.startsWith("sync-")).map(([, path]) => path)) {
    await page.goto(path);
    const now = await state(page);
    const free = await button(page, "Pause").count();
    // Not one that a guard stopped: that is another step.
    if (free && /scheduled|by hand/.test(now) && !/guard|failed|died/.test(now)) return path;
  }
  return null;
}

async function take(where, step) {
  try {
    const left = await step();
    if (left && strict) complain(where, `left out: ${left}`);
    else console.log(left ? `  left out: ${where}: ${left}` : `  ok: ${where}`);
  } catch (error) {
    complain(where, error.message);
  }
}

async function use(pages) {
  for (const javaScriptEnabled of [true, false]) {
    const { context, page } = await visitor("light", { javaScriptEnabled });
    page.javaScript = javaScriptEnabled;
    page.setDefaultTimeout(15_000);
    for (const [name, step] of Object.entries(STEPS)) {
      // Without a script nothing can be asked of the page about its focus.
      if (!javaScriptEnabled && name.startsWith("the first press")) continue;
      page.expected = 200;
      await take(`${javaScriptEnabled ? "with" : "without"} a script, ${name}`, () => step(page, pages));
    }
    await context.close();
  }
}

async function comeIn() {
  for (const [name, step] of Object.entries(AT_THE_DOOR)) {
    const { context, page } = await visitor("light", { outside: true });
    page.setDefaultTimeout(15_000);
    await take(name, () => step(page, context));
    await context.close();
  }
}

try {
  const named = (process.env.GROUPCAST_PAGES ?? "").split(" ").filter(Boolean).map((pair) => pair.split(/=(.*)/s).slice(0, 2));
  const pages = named.length ? new Map(named) : await survey();
  console.log(`pages: ${[...pages.keys()].join(", ")}`);
  if (does.has("policy")) await keepThePolicy(pages);
  if (does.has("look")) await look(pages);
  if (does.has("use")) await use(pages);
  // Last, because afterwards nobody here is listened to for a minute.
  if (does.has("login") && token) await comeIn();
} finally {
  await browser.close();
}
if (complaints.length) {
  console.error(`${complaints.length} complaints`);
  process.exit(1);
}
console.log(`nothing to complain about; screenshots are in ${shots}`);
