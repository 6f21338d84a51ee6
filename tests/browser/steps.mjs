// What does somebody do with the console who is called at night? Steps that a browser takes; each fails with words, or says
// why there was no occasion for it. `page.javaScript` tells whether the page may run its script, `page.expected` which
// status the step is about to see.

import { join } from "node:path";

/** What a link to a group looks like. */
export const GROUP = /^\/syncs\/[^/]+\/groups\?key=/;
/** Where the links of a page lead. */
export const links = (page) =>
  page.$$eval("a[href^='/']", (all) => all.map((link) => link.getAttribute("href").split("#")[0]));
/** The status that a page is to have: its name says so where it is not 200. */
export const statusOf = (kind) => Number(/-([45]\d\d)$/.exec(kind)?.[1] ?? 200);

export async function logIn(page, shown, next = "/") {
  await page.goto(`/login?next=${encodeURIComponent(next)}`);
  await page.getByLabel("Token").fill(shown);
  const answered = page.waitForResponse((answer) => answer.request().method() === "POST" && answer.url().endsWith("/login"));
  await page.getByRole("button", { name: "Log in" }).click();
  await answered;
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

/** Waits until a run's page tells how it ended; without a script somebody has to ask. */
async function ended(page) {
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

/** With a page of somebody who is let in. `pages` are the addresses by name, `shots` the folder of screenshots. */
export const STEPS = {
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
    await page.getByRole("heading", { name: "Counts", exact: true }).waitFor();
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
      for (const href of await links(page)) if (GROUP.test(href)) groups.add(href);
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
  "an order given twice is one run, which can be taken back": async (page, pages) => {
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
      // A run that never began has no page.
      pages.delete("run-waiting");
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
  "a form that no page of ours made is refused in words": async (page, pages, shots) => {
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

/** Logging in and out, as somebody who comes from outside and knows the token. */
export const AT_THE_DOOR = {
  "a page asks for the token and is shown after it": async ({ page, token }) => {
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
  "nobody is led elsewhere by the address of the login page": async ({ page, token, address }) => {
    for (const next of ["https://example.invalid/", "//example.invalid/", "/\\example.invalid", "/\t/example.invalid", "javascript:alert(1)"]) {
      await logIn(page, token, next);
      await page.getByRole("heading", { name: "Overview" }).waitFor();
      if (new URL(page.url()).origin !== new URL(address).origin) fail(`${next} leads to ${page.url()}`);
    }
  },
  "a form of a session that has ended is refused in words, and leads to the login": async ({ page, context, token, shots }) => {
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
  "who logs out has to log in again, also from the history": async ({ page, token }) => {
    await letIn(page, token);
    await page.getByRole("link", { name: "Runs", exact: true }).click();
    await button(page, "Log out").click();
    await page.getByLabel("Token").waitFor();
    await page.goBack();
    if (await page.getByRole("heading", { name: "Runs" }).count()) fail("going back shows the page");
    await page.goto("/");
    await page.getByLabel("Token").waitFor();
  },
  "too many wrong tokens are answered in words": async ({ page, shots }) => {
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
