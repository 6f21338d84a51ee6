// The steps of an operator at night, in a browser. Each step passes, fails with a message, or returns why it is skipped.
// `page.javaScript` is whether the page may run its script, `page.expected` the status that the step is about to see.

import { join } from "node:path";

/** A link to a group. */
export const GROUP = /^\/syncs\/[^/]+\/groups\?key=/;
/** The paths of a page's links. */
export const links = (page) =>
  page.$$eval("a[href^='/']", (all) => all.map((link) => link.getAttribute("href").split("#")[0]));
/** The expected status of a page: its name ends in it where it is not 200. */
export const statusOf = (kind) => Number(/-([45]\d\d)$/.exec(kind)?.[1] ?? 200);

export async function logIn(page, token, next = "/") {
  await page.goto(`/login?next=${encodeURIComponent(next)}`);
  await page.getByLabel("Token").fill(token);
  const responded = page.waitForResponse((response) => response.request().method() === "POST" && response.url().endsWith("/login"));
  await page.getByRole("button", { name: "Log in" }).click();
  await responded;
}

/** With the right token. */
export async function letIn(page, token, next = "/") {
  await logIn(page, token, next);
  await page.waitForURL((url) => url.pathname !== "/login");
}

const fail = (what) => {
  throw new Error(what);
};
const button = (page, name) => page.getByRole("button", { name });
const state = async (page) => (await page.locator("h1 .badge").allTextContents()).join(" ").replace(/[^a-z ]+/gi, "").trim();

/** Waits until a run's page shows its result; without a script, by reloading. */
async function finished(page) {
  const counts = page.getByRole("heading", { name: "Counts", exact: true });
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

/** With a page of a visitor who is logged in. `pages` are the paths by name, `shots` the folder of screenshots. */
export const STEPS = {
  "the first press of Tab offers to skip to the content": async (page) => {
    await page.goto("/");
    await page.keyboard.press("Tab");
    const skip = page.getByRole("link", { name: "Skip to content" });
    if (!(await skip.evaluate((node) => node === document.activeElement && node.getBoundingClientRect().top >= 0)))
      fail("it is not there");
    await page.keyboard.press("Enter");
    if (!(await page.evaluate(() => document.activeElement.id === "main"))) fail("it leads nowhere");
  },
  "a run is started, watched until it finishes, and listed": async (page, pages) => {
    const path = await freeSync(page, pages);
    if (!path) return "no sync is free to run";
    await page.goto(path);
    await button(page, "Run now").click();
    await page.waitForURL(/\/runs\//);
    const started = page.url();
    // The page refreshes itself until the counts appear.
    await finished(page);
    if (page.url() !== started) fail(`it went to ${page.url()}`);
    await page.goto("/runs");
    const listed = page.locator(`#runs tbody tr:has(a[href="${new URL(started).pathname}"])`);
    if (!(await listed.innerText()).includes("console")) fail("the list does not show what started it");
  },
  "after going back, buttons can be pressed again": async (page, pages) => {
    const path = await freeSync(page, pages);
    if (!path) return "no sync is free to run";
    await page.goto(path);
    await button(page, "Run now").click();
    await page.waitForURL(/\/runs\//);
    await page.goBack();
    if (!page.url().endsWith(path)) fail(`back leads to ${page.url()}`);
    await button(page, "Run now").click({ timeout: 5_000 });
    await page.waitForURL(/\/runs\//);
    await finished(page);
    await page.goBack();
    await page.goForward();
    await page.getByRole("heading", { name: "Counts", exact: true }).waitFor();
  },
  "an open page shows a pause by itself, and ages count on": async (page, pages) => {
    const path = await freeSync(page, pages);
    if (!path) return "no sync is free";
    if (!page.javaScript) return null;
    const other = await page.context().newPage();
    await other.goto("/");
    const row = other.locator(`#syncs tr:has(a[href="${path}"])`);
    const age = other.locator("footer [data-age]").first();
    const before = await age.innerText();
    await page.goto(path);
    await button(page, "Pause").click();
    await button(page, "Resume").waitFor();
    // Sooner than the page would refresh without being notified.
    await row.getByText("paused").first().waitFor({ timeout: 8_000 });
    await button(page, "Resume").click();
    await button(page, "Pause").waitFor();
    await row.getByText("paused").first().waitFor({ state: "detached", timeout: 8_000 });
    // The words change within a minute, those of the first minute every second.
    for (let turn = 0; /^\d+ s|just/.test(before) && (await age.innerText()) === before; turn += 1) {
      if (turn > 40) fail(`the age stays at ${before}`);
      await other.waitForTimeout(250);
    }
    await other.close();
  },
  "syncs are searched, filtered and sorted, and the address keeps it": async (page) => {
    await page.goto("/");
    const rows = page.locator("#syncs tbody tr");
    const all = await rows.count();
    if (all < 2) return "there is one sync";
    const first = (await rows.first().locator("th a").first().innerText()).trim();
    await page.getByLabel("Search").fill(first);
    await button(page, /^Show$/).click();
    await page.waitForURL(/q=/);
    if ((await rows.count()) >= all || !(await rows.first().innerText()).includes(first)) fail(`${await rows.count()} rows for ${first}`);
    await page.getByRole("link", { name: "Show all" }).click();
    await page.getByLabel("Sort by").selectOption("health");
    await button(page, /^Show$/).click();
    await page.waitForURL(/sort=health/);
    await page.reload();
    if ((await page.getByLabel("Sort by").inputValue()) !== "health") fail("the order is lost");
    if (!/error|failing|blocked|late|degraded/.test(await rows.first().innerText())) fail(`first comes ${await rows.first().innerText()}`);
  },
  "rejected groups are searched, and downloaded": async (page) => {
    await page.goto("/rejected");
    if (!(await page.locator("article.card").count())) return "nothing is rejected";
    const key = (await page.locator("article.card tbody th a").first().innerText()).trim();
    await page.getByLabel("Search in keys").fill(key);
    await button(page, "Search").click();
    await page.waitForURL(/q=/);
    if (!(await page.locator("article.card tbody th a").first().innerText()).includes(key)) fail(`${key} is not found`);
    for (const [kind, beginning] of [["CSV", "sync,key,at,"], ["JSON", "["]]) {
      const path = await page.getByRole("link", { name: new RegExp(`^Download ${kind}`) }).first().getAttribute("href");
      const response = await page.request.get(path);
      const text = await response.text();
      if (response.status() !== 200 || !text.startsWith(beginning) || !text.includes(key)) fail(`${path}: ${text.slice(0, 200)}`);
    }
  },
  "the keyboard finds the search, the pages and the list of shortcuts": async (page) => {
    if (!page.javaScript) return null;
    await page.goto("/");
    await page.keyboard.press("/");
    if (!(await page.getByLabel("Search").evaluate((node) => node === document.activeElement))) fail("/ does not focus the search");
    await page.keyboard.type("g r?");
    if ((await page.getByLabel("Search").inputValue()) !== "g r?") fail("shortcuts work while typing");
    await page.locator("main").focus();
    await page.keyboard.press("?");
    await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
    await page.keyboard.press("Escape");
    await page.getByRole("dialog").waitFor({ state: "detached" });
    await page.keyboard.press("g");
    await page.keyboard.press("r");
    await page.waitForURL(/\/runs$/);
    await page.keyboard.press("g");
    await page.keyboard.press("o");
    await page.getByRole("heading", { name: "Overview" }).waitFor();
    await page.getByLabel("Keyboard shortcuts").selectOption("off");
    await page.locator("main").focus();
    await page.keyboard.press("?");
    if (await page.getByRole("dialog").count()) fail("they cannot be switched off");
    await page.getByLabel("Keyboard shortcuts").selectOption("on");
  },
  "theme and time zone are chosen and kept": async (page, pages) => {
    if (!page.javaScript) return null;
    await page.goto("/runs");
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const time = page.locator("#runs time").first();
    const light = await ground();
    await page.getByLabel("Theme").selectOption("dark");
    const dark = await ground();
    if (light === dark) fail("the theme changes nothing");
    await page.reload();
    if ((await ground()) !== dark) fail("the theme is lost");
    await page.getByLabel("Theme").selectOption("auto");
    if ((await ground()) !== light) fail("the system's theme does not return");
    await page.getByLabel("Times").selectOption("utc");
    if (!(await time.innerText()).endsWith("UTC")) fail(await time.innerText());
    const path = [...pages].find(([kind]) => /^run-succeeded/.test(kind))?.[1];
    if (!path) return "no run succeeded";
    await page.goto(path);
    await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
    await button(page, "Copy the run ID").click();
    await page.getByText("Copied").waitFor();
    const copied = await page.evaluate(() => navigator.clipboard.readText());
    if (!path.endsWith(copied)) fail(`${copied} was copied`);
    await page.getByLabel("Times").selectOption("viewer");
  },
  "a group is opened by its key": async (page, pages) => {
    const path = pages.get("group");
    if (!path) return "no group is linked";
    const [sync, query] = path.split("/groups?");
    // A box of one line cannot contain line breaks.
    const key = new URLSearchParams(query).get("key");
    if (/[\0\r\n]/.test(key)) return "the first key has line breaks";
    await page.goto(sync);
    await page.getByLabel("Open a group by its key").fill(key);
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "Synced traits" }).waitFor();
  },
  "a group is opened from a run, and shows of each trait what was sent, when, and by which run": async (page, pages) => {
    for (const path of [...pages].filter(([kind]) => /^run-succeeded/.test(kind)).map(([, path]) => path)) {
      await page.goto(`${path}?outcome=delivered`);
      const group = page.locator("#changes-table tbody tr a").first();
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
      for (const href of await links(page)) if (GROUP.test(href)) groups.add(href);
    }
    if (!groups.size) return "no group is linked";
    for (const href of [...groups].slice(0, 60)) {
      const response = await page.goto(href);
      if (response.status() !== 200) fail(`${href}: ${response.status()}`);
      if (await page.evaluate(() => document.querySelector("main script, main img, main i") !== null)) fail(`${href} has foreign markup`);
    }
  },
  "a plan shows old and new values": async (page, pages) => {
    const path = pages.get("plan-of-changes");
    if (!path) return "no sync is called `changes`";
    await page.goto(path.replace(/\/plan$/, ""));
    await page.getByRole("link", { name: "Plan", exact: true }).click();
    await page.getByRole("heading", { name: "Changes", exact: true }).waitFor();
    const swap = page.locator(".planned.swap li.swap").first();
    const [old, fresh] = [await swap.locator("del").innerText(), await swap.locator("ins").innerText()];
    if (!old || !fresh || old === fresh) fail(`${old} → ${fresh}`);
    for (const tone of ["add", "cut"]) if (!(await page.locator(`.planned.${tone}`).count())) fail(`nothing is marked ${tone}`);
    await page.getByLabel("whole model").check();
    await button(page, "Plan again").click();
    await page.waitForURL(/full=1/);
    await page.getByText("from the whole model").waitFor();
  },
  "a sync is paused and resumed": async (page, pages) => {
    const path = await freeSync(page, pages);
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
    const look = page.locator("#attention").getByRole("link", { name: /^Review guard/ });
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
    const now = await finished(page);
    if (now !== "succeeded") fail(`the run: ${now}`);
  },
  "rejected groups are ticked, and retried by a run of them alone once that is confirmed": async (page) => {
    await page.goto("/rejected");
    const card = page.locator("article.card:has(input[type=checkbox])").first();
    if (!(await card.count())) return "nothing is rejected";
    page.expected = 400;
    await card.getByRole("button", { name: "Retry selected…" }).click();
    await page.getByText("no group is selected").waitFor();
    page.expected = 200;
    await page.goBack();
    const boxes = card.getByRole("checkbox");
    if (page.javaScript) {
      await button(page, "Select all shown").first().click();
      for (const box of await boxes.all()) if (!(await box.isChecked())) fail("a box is not ticked");
      await button(page, "Select all shown").first().click();
      if (await boxes.first().isChecked()) fail("the boxes stay ticked");
    }
    await boxes.first().check();
    const key = (await card.locator("tbody th a").first().getAttribute("title")).trim();
    await card.getByRole("button", { name: "Retry selected…" }).click();
    await page.getByRole("heading", { name: /^Retry 1 group of/ }).waitFor();
    if (!(await page.locator("ul.keys").innerText()).includes(key)) fail(`${key} is not named`);
    await button(page, "Retry 1 group").click();
    await page.waitForURL(/\/runs\//);
    await finished(page);
    const rows = page.locator("#changes-table tbody tr");
    if ((await rows.count()) !== 1 || !(await rows.innerText()).includes(key)) fail(`${await rows.count()} groups, of ${key}`);
  },
  "a run shows its log, its traits, and its guards beside the previous ones": async (page, pages) => {
    for (const path of [...pages].filter(([kind]) => /^run-(succeeded|incomplete|cancelled)/.test(kind)).map(([, path]) => path)) {
      await page.goto(path);
      if (!(await page.locator("#traits-table tbody tr").count())) continue;
      if (!/read [\d,]+ rows/.test(await page.locator("#log-table").innerText())) fail("the log has no line about the source");
      const guard = await page.locator("#readings tbody tr", { hasText: "rows-dropped" }).innerText();
      if (!guard) fail("no guard is shown");
      const latency = await page.locator("dl:has-text('Median latency')").first().innerText();
      if (!/\d+ m?s/.test(latency)) fail(`the latency: ${latency}`);
      return null;
    }
    return "no run sent anything";
  },
  "a destination shows its limits, and how it responded run by run": async (page, pages) => {
    const path = pages.get("destination");
    if (!path) return "no destination is linked";
    await page.goto(path);
    const limits = await page.locator("#limits").innerText();
    if (!/Rate limit/.test(limits) || !/up to \d+/.test(limits)) fail(limits);
    const run = page.locator("#destination-runs tbody tr").first();
    if (!(await run.count())) return "it was sent nothing";
    await run.locator("a").first().click();
    await page.getByRole("heading", { name: /^Run of/ }).waitFor();
  },
  "rejected groups are retried, and error messages are shown": async (page) => {
    await page.goto("/rejected");
    const retry = button(page, /^Retry rejected of/).first();
    if (!(await retry.count())) return "nothing is rejected";
    await retry.click();
    await page.getByRole("heading", { name: /^Retry \d+ rejected groups? of/ }).waitFor();
    await button(page, /^Retry \d+ rejected/).click();
    await page.waitForURL(/\/runs\//);
    const now = await finished(page);
    if (!now.startsWith("succeeded")) fail(`the run: ${now}`);
    if (now === "succeeded with rejections") {
      const message = await page.locator("#rejections .message").first().innerText();
      if (message.trim().length < 5) fail(`the error message: ${message}`);
    }
  },
  "two equal requests are one queued run, which can be cancelled": async (page, pages) => {
    const path = await runningSync(page);
    if (!path) return "no run is in progress";
    const runNow = async () => {
      await page.goto(path);
      await button(page, "Run now").click();
      await page.waitForURL((url) => !url.pathname.endsWith(path));
    };
    await page.goto(path);
    if (await page.getByRole("link", { name: "Queued run" }).count()) {
      await page.getByRole("link", { name: "Queued run" }).click();
      await button(page, "Cancel this run").click();
      await page.waitForURL((url) => url.pathname === path);
      // A run that never started has no page.
      pages.delete("run-queued");
    }
    await runNow();
    const first = new URL(page.url()).pathname;
    if (!(await state(page)).includes("queued")) fail(`it says ${await state(page)}`);
    await runNow();
    if (new URL(page.url()).pathname !== first) fail(`${page.url()} is another run`);
    await page.getByText("An equal run was queued already").waitFor();
    await button(page, "Cancel this run").click();
    await page.waitForURL((url) => url.pathname === path);
    if (await page.getByRole("link", { name: "Queued run" }).count()) fail("it is still queued");
    // For the steps that follow.
    await runNow();
  },
  "a run shows its progress, and is cancelled": async (page) => {
    const path = await runningSync(page);
    if (!path) return "no run is in progress";
    await page.getByRole("link", { name: "Current run" }).click();
    const done = () => page.locator("progress").first().evaluate((node) => node.value);
    const before = await done();
    for (let turn = 0; (await done()) <= before; turn += 1) {
      if (turn > 100) fail(`it stays at ${before}`);
      await page.waitForTimeout(250);
      if (!page.javaScript) await page.getByRole("link", { name: "Refresh" }).click();
    }
    await button(page, "Cancel this run").click();
    const now = await finished(page);
    if (now !== "cancelled") fail(`the run: ${now}`);
  },
  "a form from another page is rejected with a message": async (page, pages, shots) => {
    const path = await freeSync(page, pages);
    if (!path) return "no sync is free";
    await page.goto(path);
    if (!page.javaScript) return null;
    await page.evaluate(() => document.querySelectorAll("input[name=csrf]").forEach((field) => (field.value = "stale")));
    page.expected = 403;
    await button(page, "Pause").click();
    await page.getByText("not from a page of this session").waitFor();
    await page.screenshot({ path: join(shots, "rejected-form.png"), fullPage: true });
    page.expected = 200;
  },
};

/** Logging in and out. */
export const LOGIN_STEPS = {
  "a page requires the token and is shown after the login": async ({ page, token }) => {
    await page.goto("/runs?sync=accounts");
    if (!page.url().includes("/login")) fail(`it shows ${page.url()}`);
    await page.getByLabel("Token").fill("certainly-not-the-token");
    await button(page, "Log in").click();
    await page.getByRole("alert").waitFor();
    await page.getByLabel("Token").fill(token);
    await button(page, "Log in").click();
    await page.waitForURL(/\/runs\?sync=accounts$/);
  },
  "the cookie is for this site alone, and no script reads it": async ({ page, context, token }) => {
    await letIn(page, token);
    const [cookie] = await context.cookies();
    if (!cookie.httpOnly || cookie.sameSite !== "Strict" || cookie.path !== "/" || cookie.domain.startsWith(".")) fail(JSON.stringify({ ...cookie, value: "…" }));
    if (await page.evaluate(() => document.cookie)) fail("a script can read it");
  },
  "the login page never leads to another site": async ({ page, token, address }) => {
    for (const next of ["https://example.invalid/", "//example.invalid/", "/\\example.invalid", "/\t/example.invalid", "javascript:alert(1)"]) {
      await logIn(page, token, next);
      await page.getByRole("heading", { name: "Overview" }).waitFor();
      if (new URL(page.url()).origin !== new URL(address).origin) fail(`${next} leads to ${page.url()}`);
    }
  },
  "a form of an expired session shows a message and leads to the login": async ({ page, context, token, shots }) => {
    await letIn(page, token, "/syncs/accounts");
    await context.clearCookies();
    page.expected = 401;
    await button(page, "Pause").click();
    await page.getByText(/logged out|log in/i).first().waitFor();
    await page.screenshot({ path: join(shots, "session-ended.png"), fullPage: true });
    page.expected = 200;
    await page.getByRole("link", { name: /log in/i }).click();
    await page.getByLabel("Token").waitFor();
  },
  "after logging out, a page requires the token again, also from the history": async ({ page, token }) => {
    await letIn(page, token);
    await page.getByRole("link", { name: "Runs", exact: true }).click();
    await button(page, "Log out").click();
    await page.getByLabel("Token").waitFor();
    await page.goBack();
    if (await page.getByRole("heading", { name: "Runs" }).count()) fail("going back shows the page");
    await page.goto("/");
    await page.getByLabel("Token").waitFor();
  },
  "too many wrong tokens show a message, and the right one still works": async ({ page, token, shots }) => {
    page.expected = 429;
    for (let turn = 0; turn < 12; turn += 1) await logIn(page, `wrong-token-number-${turn}`);
    await page.getByText(/too many failed logins: try again in \d+ s/i).waitFor();
    await page.screenshot({ path: join(shots, "too-many.png"), fullPage: true });
    page.expected = 200;
    await letIn(page, token);
  },
};

/** The path of a sync with a run in progress, with its page open. */
async function runningSync(page) {
  await page.goto("/");
  const run = page.locator("#running article:has(progress) h3 a");
  if (!(await run.count())) return null;
  const name = await run.first().innerText();
  await page.locator("#all").getByRole("link", { name, exact: true }).click();
  return new URL(page.url()).pathname;
}

async function freeSync(page, pages) {
  for (const path of [...pages].filter(([kind]) => kind.startsWith("sync-")).map(([, path]) => path)) {
    await page.goto(path);
    const now = await state(page);
    const free = await button(page, "Pause").count();
    // Not one that a guard stopped: that is another step.
    if (free && /scheduled|manual/.test(now) && !/guard|failed|crashed/.test(now)) return path;
  }
  return null;
}
