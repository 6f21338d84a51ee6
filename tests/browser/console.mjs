// Does a real browser find anything wrong with the console? Every page is opened in light, dark and on a phone; each is
// held to the rules of axe-core, may not complain on the browser's console (which is where a breach of the content
// security policy shows), and may not scroll sideways. Then the console is used: with a script, without, by keyboard.
//
//   node console.mjs NODE_MODULES CHROMIUM ADDRESS SCREENSHOT_FOLDER
//
// Pages are found by following links from the overview, so this works against any daemon; steps of the scenario that a
// daemon offers no occasion for (no guard stopped a run) are said to be left out.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [modules, executablePath, address, shots] = process.argv.slice(2);
const require = createRequire(join(modules, "anything.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const token = process.env.GROUPCAST_TOKEN;

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

async function visitor(look, more = {}) {
  const context = await browser.newContext({ ...LOOKS[look], reducedMotion: "reduce", baseURL: address, ...more });
  const page = await context.newPage();
  let expected = 200;
  page.on("console", (message) => {
    // A page that says "not found" is logged as an error too, where one was asked for.
    if (["error", "warning"].includes(message.type()) && !(expected >= 400 && message.text().includes(String(expected))))
      complain(`${look} ${page.url()}`, `the browser says: ${message.text()}`);
  });
  page.on("pageerror", (error) => complain(`${look} ${page.url()}`, `the script fails: ${error}`));
  if (token) {
    await page.goto("/login");
    await page.getByLabel("Token").fill(token);
    await page.getByRole("button", { name: "Log in" }).click();
    await page.getByRole("heading", { name: "Overview" }).waitFor();
  }
  return { context, page, expect: (status) => (expected = status) };
}

const links = (page) =>
  page.$$eval("a[href^='/']", (all) => all.map((link) => link.getAttribute("href").split("#")[0]));

/** One page of each kind, every sync, and runs of every status that can be seen. */
async function survey() {
  const { context, page } = await visitor("light");
  const pages = new Map([["overview", "/"], ["login", "/login?failed=1&next=/runs"], ["not-found", "/syncs/there-is-none"]]);
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
  const waiting = seen.find((path) => path.startsWith("/runs/") && ![...pages.values()].includes(path));
  if (waiting) pages.set("run-other", waiting);
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
    const { context, page, expect } = await visitor(name, { bypassCSP: true });
    for (const [kind, path] of pages) {
      const status = kind === "not-found" ? 404 : 200;
      expect(status);
      const answer = await page.goto(path);
      if (answer.status() !== status) complain(`${name} ${path}`, `status ${answer.status()}`);
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
  const { context, page, expect } = await visitor("light");
  for (const [kind, path] of pages) {
    expect(kind === "not-found" ? 404 : 200);
    const answer = await page.goto(path);
    if (!(answer.headers()["content-security-policy"] ?? "").includes("default-src 'none'")) complain(kind, "no policy");
    const styled = await page.evaluate(() => getComputedStyle(document.body).margin === "0px");
    if (!styled) complain(kind, "the style sheet was not taken");
  }
  await context.close();
}

const STEPS = {
  "the first press of Tab offers to skip to the content": async (page) => {
    await page.goto("/");
    await page.keyboard.press("Tab");
    const skip = page.getByRole("link", { name: "Skip to the content" });
    if (!(await skip.evaluate((node) => node === document.activeElement && node.getBoundingClientRect().top >= 0)))
      throw new Error("it is not there");
    await page.keyboard.press("Enter");
    if (!(await page.evaluate(() => document.activeElement.id === "main"))) throw new Error("it leads nowhere");
  },
  "a run is ordered and watched until it ends": async (page, pages) => {
    const path = await syncThatMayRun(page, pages);
    if (!path) return "no sync is free to run";
    await page.goto(path);
    await page.getByRole("button", { name: "Run now" }).click();
    await page.waitForURL(/\/runs\//);
    const started = page.url();
    if (page.javaScript) {
      // Nothing is pressed: the page keeps itself fresh, and its end shows the counts.
      await page.getByRole("heading", { name: "Counts" }).waitFor({ timeout: 60_000 });
    } else {
      for (let turn = 0; turn < 60 && !(await page.getByRole("heading", { name: "Counts" }).count()); turn += 1) {
        await page.getByRole("link", { name: "Refresh" }).click();
        await page.waitForTimeout(250);
      }
    }
    if (page.url() !== started) throw new Error(`it went to ${page.url()}`);
    const terms = await page.$$eval(".sum:first-of-type .term b", (all) => all.map((node) => Number(node.textContent.replaceAll(",", ""))));
    if (terms.length !== 6 || terms[0] !== terms.slice(1).reduce((sum, term) => sum + term, 0)) throw new Error(`${terms} do not add up`);
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
  "a sync is paused and resumed": async (page, pages) => {
    const path = await syncThatMayRun(page, pages);
    if (!path) return "no sync is free";
    await page.goto(path);
    await page.getByRole("button", { name: "Pause" }).click();
    await page.getByRole("button", { name: "Resume" }).click();
    await page.getByRole("button", { name: "Pause" }).waitFor();
  },
  "a guard is accepted, but not without ticking its figures": async (page, pages) => {
    const path = pages.get("run-stopped-by-a-guard");
    if (!path) return "no guard stopped a run";
    await page.goto(path);
    const summary = page.getByText("Accept and run…");
    if (!(await summary.count())) return "a later run took place";
    await summary.click();
    await page.getByRole("button", { name: "Accept once and run" }).click();
    if (!page.url().endsWith(path)) throw new Error("it ran without a tick");
    await page.getByRole("checkbox").first().check();
    await page.getByRole("button", { name: "Accept once and run" }).click();
    await page.waitForURL((url) => !url.pathname.endsWith(path));
    await page.getByRole("heading", { name: /^Run of/ }).waitFor();
  },
};

async function syncThatMayRun(page, pages) {
  for (const path of [...pages].filter(([kind]) => kind.startsWith("sync-")).map(([, path]) => path)) {
    await page.goto(path);
    const state = (await page.locator("h1 .badge").allTextContents()).join(" ");
    const free = await page.getByRole("button", { name: "Pause" }).count();
    // Not one that a guard stopped: that is another step.
    if (free && /scheduled|by hand/.test(state) && !/guard/.test(state)) return path;
  }
  return null;
}

async function use(pages) {
  for (const javaScriptEnabled of [true, false]) {
    const { context, page } = await visitor("light", { javaScriptEnabled });
    page.javaScript = javaScriptEnabled;
    page.setDefaultTimeout(15_000);
    for (const [name, step] of Object.entries(STEPS)) {
      // Without a script nothing can be asked of the page about its focus.
      if (!javaScriptEnabled && name.startsWith("the first press")) continue;
      const where = `${javaScriptEnabled ? "with" : "without"} a script, ${name}`;
      try {
        const left = await step(page, pages);
        console.log(left ? `  left out: ${where}: ${left}` : `  ok: ${where}`);
      } catch (error) {
        complain(where, error.message);
      }
    }
    await context.close();
  }
}

try {
  const pages = await survey();
  console.log(`pages: ${[...pages.keys()].join(", ")}`);
  await keepThePolicy(pages);
  await look(pages);
  await use(pages);
} finally {
  await browser.close();
}
if (complaints.length) {
  console.error(`${complaints.length} complaints`);
  process.exit(1);
}
console.log(`nothing to complain about; screenshots are in ${shots}`);
