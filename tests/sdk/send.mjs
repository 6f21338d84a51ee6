// Sends the cases through one of the official Node SDKs: `node send.mjs SDK ADDRESS MODULES`.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const KEY = "0123456789abcdef0123456789abcdef";
const POSTHOG_KEY = "phc_0123456789abcdef";
const [sdk, url, modules] = process.argv.slice(2);
const require = createRequire(modules + "/package.json");

// A case's value as an application would hold it.
function plain(value) {
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  if (value.$datetime) return new Date(value.$datetime);
  if (value.$date) return new Date(value.$date);
  if (value.$number) return Number(value.$number);
  if (value.$repeat) return value.$repeat[0].repeat(value.$repeat[1]);
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, plain(member)]));
}

const traits = (given, under) => Object.fromEntries((given[under] ?? []).map(({ name, value }) => [name, plain(value)]));
const cases = JSON.parse(readFileSync(new URL("cases.json", import.meta.url)));
const onlySet = cases.filter((one) => one.set && !one.set_once);

const send = {
  async amplitude() {
    const amplitude = require("@amplitude/analytics-node");
    await amplitude.init(KEY, { serverUrl: url + "/2/httpapi", flushIntervalMillis: 50, logLevel: 0 }).promise;
    for (const one of cases) {
      const identify = new amplitude.Identify();
      try {
        for (const [name, value] of Object.entries(traits(one, "set"))) identify.set(name, value);
        for (const [name, value] of Object.entries(traits(one, "set_once"))) identify.setOnce(name, value);
        for (const name of Object.keys(traits(one, "unset"))) identify.unset(name);
      } catch (error) {
        // A value that the SDK cannot write; the comparison then finds nothing of the case.
        console.log(`${one.case}: ${error.message}`);
        continue;
      }
      amplitude.groupIdentify("company", one.key, identify);
    }
    await amplitude.flush().promise;
  },
  async posthog() {
    const { PostHog } = require("posthog-node");
    const client = new PostHog(POSTHOG_KEY, { host: url, flushAt: 1 });
    for (const one of onlySet) client.groupIdentify({ groupType: "company", groupKey: one.key, properties: traits(one, "set") });
    await client.shutdown();
  },
  async segment() {
    const { Analytics } = require("@segment/analytics-node");
    const client = new Analytics({ writeKey: KEY, host: url });
    for (const one of onlySet) client.group({ userId: "account:" + one.key, groupId: one.key, traits: traits(one, "set") });
    await client.closeAndFlush();
  },
  async mixpanel() {
    const { host } = new URL(url);
    const client = require("mixpanel").init(KEY, { host, protocol: "http" });
    const sent = (call) => new Promise((done) => call(done));
    for (const one of cases) {
      if (one.unset) await sent((done) => client.groups.unset("company", one.key, Object.keys(traits(one, "unset")), done));
      if (one.set) await sent((done) => client.groups.set("company", one.key, traits(one, "set"), done));
      if (one.set_once) await sent((done) => client.groups.set_once("company", one.key, traits(one, "set_once"), done));
    }
  },
};

await send[sdk]();
process.exit(0);
