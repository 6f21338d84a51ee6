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

import { AT_THE_DOOR, GROUP, STEPS, letIn, links, statusOf } from "./steps.mjs";

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
  group: GROUP,
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
  if (token && !outside) await letIn(page, token);
  return { context, page };
}

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
    // Nothing was ever said of a group of this name.
    if ((await last.count()) && !pages.has("no-group-404")) pages.set("no-group-404", `${path}/groups?key=nobody`);
    if (await last.locator(".badge", { hasText: "failed" }).count()) {
      // Whatever it says is a page, too.
      const status = (await page.request.get(`${path}/plan`)).status();
      if (status >= 500) pages.set(`no-plan-${status}`, `${path}/plan`);
    }
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
  const squeezed = await page.evaluate(() =>
    [...document.querySelectorAll("main :not(thead *)")]
      .filter((node) => {
        const { width, height } = node.getBoundingClientRect();
        return node.checkVisibility() && !node.children.length && node.textContent.trim().length > 6 && width < 30 && height > 4 * width;
      })
      .map((node) => node.outerHTML.slice(0, 90)));
  for (const html of squeezed) complain(where, `one letter below the other: ${html}`);
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
      await take(`${javaScriptEnabled ? "with" : "without"} a script, ${name}`, () => step(page, pages, shots));
    }
    await context.close();
  }
}

async function comeIn() {
  for (const [name, step] of Object.entries(AT_THE_DOOR)) {
    const { context, page } = await visitor("light", { outside: true });
    page.setDefaultTimeout(15_000);
    await take(name, () => step({ page, context, token, address, shots }));
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
