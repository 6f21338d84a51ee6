// The console in a real browser. Every page is opened in light, dark and on a phone, checked by axe-core, and must neither
// log to the browser's console (where a violation of the content security policy appears) nor scroll sideways. Then the
// console is used: with a script, without, by keyboard.
//
//   node console.mjs NODE_MODULES CHROMIUM ADDRESS SCREENSHOT_FOLDER
//
// Pages are found by following links from the overview, so this works against any daemon; steps that this
// daemon cannot show (no guard stopped a run) are listed as skipped. Environment variables:
//
//   GROUPCAST_TOKEN      the token to log in with
//   GROUPCAST_DOES       which of `policy look use login` to do; all by default
//   GROUPCAST_PAGES      `NAME=PATH NAME=PATH`: only these pages; a name that ends in a status expects it
//   GROUPCAST_STRICT     `1`: a skipped step is a failure

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { GROUP, LOGIN_STEPS, STEPS, letIn, links, statusOf } from "./steps.mjs";

const [modules, executablePath, address, shots] = process.argv.slice(2);
const require = createRequire(join(modules, "anything.js"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const token = process.env.GROUPCAST_TOKEN;
const does = new Set((process.env.GROUPCAST_DOES || "policy look use login").split(" "));
const strict = process.env.GROUPCAST_STRICT === "1";

const LOOKS = {
  light: { viewport: { width: 1280, height: 900 }, colorScheme: "light" },
  dark: { viewport: { width: 1280, height: 900 }, colorScheme: "dark" },
  phone: { viewport: { width: 360, height: 740 }, colorScheme: "light", deviceScaleFactor: 2, isMobile: true, hasTouch: true },
  "phone-dark": { viewport: { width: 360, height: 740 }, colorScheme: "dark", deviceScaleFactor: 2, isMobile: true, hasTouch: true },
};
// Kinds of pages: the first link that matches each is opened, and every sync.
const KINDS = {
  group: GROUP,
  plan: /^\/syncs\/[^/]+\/plan$/,
  older: /^\/runs\?before=/,
  rejected: /^\/rejected$/,
  destination: /^\/destinations\//,
  runs: /^\/runs$/,
};

const findings = [];
const report = (where, what) => {
  findings.push(`${where}: ${what}`);
  console.error(`  ${where}: ${what}`);
};

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });

async function visitor(look, { anonymous, ...more } = {}) {
  const context = await browser.newContext({ ...LOOKS[look], reducedMotion: "reduce", timezoneId: "UTC", baseURL: address, ...more });
  const page = await context.newPage();
  page.expected = 200;
  page.on("console", (message) => {
    // The browser logs an expected 404 as an error too.
    const expected = page.expected >= 400 && message.text().includes(String(page.expected));
    if (["error", "warning"].includes(message.type()) && !expected)
      report(`${look} ${page.url()}`, `the browser logs: ${message.text()}`);
  });
  page.on("pageerror", (error) => report(`${look} ${page.url()}`, `the script fails: ${error}`));
  if (token && !anonymous) await letIn(page, token);
  return { context, page };
}

/** One page of each kind, every sync, and runs of every status that can be seen. */
async function findPages() {
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
  // Runs by their badge.
  for (const from of ["/runs", ...syncs]) {
    await page.goto(from);
    const rows = await page.$$eval("#runs tbody tr", (all) =>
      all.map((row) => [row.querySelector(".badge").textContent.replace(/[^a-z]+/gi, "-").replace(/^-|-$/g, ""),
        row.querySelector("a[href^='/runs/']").getAttribute("href")]));
    for (const [status, path] of rows) if (!pages.has(`run-${status}`)) pages.set(`run-${status}`, path);
  }
  for (const path of syncs) {
    await page.goto(path);
    const queued = page.locator("#now").getByRole("link", { name: "Queued run" });
    if (!pages.has("run-queued") && (await queued.count())) pages.set("run-queued", await queued.getAttribute("href"));
    const last = page.locator("#runs tbody tr").first();
    // No group has this key.
    if ((await last.count()) && !pages.has("no-group-404")) pages.set("no-group-404", `${path}/groups?key=nobody`);
    if (await last.locator(".badge", { hasText: "failed" }).count()) {
      // The error is a page too.
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
    for (const node of broken.nodes) report(where, `${broken.id}: ${node.html.slice(0, 200)} (${node.failureSummary})`);
  const wide = await page.evaluate(() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return null;
    const out = [...document.querySelectorAll("main *")].filter((node) => node.getBoundingClientRect().right > room + 1 && !node.closest(".scroll"));
    return `${document.documentElement.scrollWidth} of ${room} px: ${out.slice(0, 3).map((node) => node.outerHTML.slice(0, 90)).join(" | ")}`;
  });
  if (wide) report(where, `the page scrolls sideways, ${wide}`);
  const squeezed = await page.evaluate(() =>
    [...document.querySelectorAll("main :not(thead *)")]
      .filter((node) => {
        const { width, height } = node.getBoundingClientRect();
        return node.checkVisibility() && !node.children.length && node.textContent.trim().length > 6 && width < 30 && height > 4 * width;
      })
      .map((node) => node.outerHTML.slice(0, 90)));
  for (const html of squeezed) report(where, `one letter below the other: ${html}`);
  const small = await page.evaluate(() =>
    [...document.querySelectorAll("button, .button, select, input:not([type=hidden], [type=checkbox])")]
      .filter((node) => node.getClientRects().length && node.getBoundingClientRect().height < 40)
      .map((node) => node.outerHTML.slice(0, 90)));
  for (const html of small) report(where, `too small for a finger: ${html}`);
}

async function look(pages) {
  for (const name of Object.keys(LOOKS)) {
    // The policy would block axe-core's own script; `checkPolicy` tests the pages with the policy in force.
    const { context, page } = await visitor(name, { bypassCSP: true });
    for (const [kind, path] of pages) {
      page.expected = statusOf(kind);
      const response = await page.goto(path);
      if (response.status() !== page.expected) report(`${name} ${path}`, `status ${response.status()}`);
      await inspect(page, `${name} ${kind}`);
      await page.screenshot({ path: join(shots, `${kind}.${name}.png`), fullPage: true });
      // What is collapsed is checked too.
      if (await page.evaluate(() => [...document.querySelectorAll("details")].map((node) => (node.open = true)).length)) {
        await inspect(page, `${name} ${kind}, opened`);
        await page.screenshot({ path: join(shots, `${kind}.${name}.opened.png`), fullPage: true });
      }
    }
    // The page that confirms a retry has no address of its own.
    await page.goto("/rejected");
    const box = page.locator("article.card input[type=checkbox]").first();
    if (pages.has("rejected") && (await box.count())) {
      await box.check();
      await page.getByRole("button", { name: "Retry selected…" }).first().click();
      await page.getByRole("heading", { name: /^Retry / }).waitFor();
      await inspect(page, `${name} retry`);
      await page.screenshot({ path: join(shots, `retry.${name}.png`), fullPage: true });
    }
    await context.close();
  }
}

/** Opens each page with the policy in force: a violation appears on the browser's console. */
async function checkPolicy(pages) {
  const { context, page } = await visitor("light");
  for (const [kind, path] of pages) {
    page.expected = statusOf(kind);
    const response = await page.goto(path);
    if (!(response.headers()["content-security-policy"] ?? "").includes("default-src 'none'")) report(kind, "no policy");
    const styled = await page.evaluate(() => getComputedStyle(document.body).margin === "0px");
    if (!styled) report(kind, "the style sheet was not applied");
  }
  await context.close();
}

async function run(where, step) {
  try {
    const skipped = await step();
    if (skipped && strict) report(where, `skipped: ${skipped}`);
    else console.log(skipped ? `  skipped: ${where}: ${skipped}` : `  ok: ${where}`);
  } catch (error) {
    report(where, error.message);
  }
}

async function use(pages) {
  for (const javaScriptEnabled of [true, false]) {
    const { context, page } = await visitor("light", { javaScriptEnabled });
    page.javaScript = javaScriptEnabled;
    page.setDefaultTimeout(15_000);
    for (const [name, step] of Object.entries(STEPS)) {
      // Without a script the focus cannot be read.
      if (!javaScriptEnabled && name.startsWith("the first press")) continue;
      page.expected = 200;
      await run(`${javaScriptEnabled ? "with" : "without"} a script, ${name}`, () => step(page, pages, shots));
    }
    await context.close();
  }
}

async function logInAndOut() {
  for (const [name, step] of Object.entries(LOGIN_STEPS)) {
    const { context, page } = await visitor("light", { anonymous: true });
    page.setDefaultTimeout(15_000);
    await run(name, () => step({ page, context, token, address, shots }));
    await context.close();
  }
}

try {
  const named = (process.env.GROUPCAST_PAGES ?? "").split(" ").filter(Boolean).map((pair) => pair.split(/=(.*)/s).slice(0, 2));
  const pages = named.length ? new Map(named) : await findPages();
  console.log(`pages: ${[...pages.keys()].join(", ")}`);
  if (does.has("policy")) await checkPolicy(pages);
  if (does.has("look")) await look(pages);
  if (does.has("use")) await use(pages);
  // Last, because it counts as failed logins of this address.
  if (does.has("login") && token) await logInAndOut();
} finally {
  await browser.close();
}
if (findings.length) {
  console.error(`${findings.length} findings`);
  process.exit(1);
}
console.log(`no findings; screenshots are in ${shots}`);
