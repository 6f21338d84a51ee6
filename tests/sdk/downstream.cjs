// What do tools behind Segment make of group calls? Runs calls through the integrations as Segment publishes them, with
// their default mappings: `node downstream.cjs MODULES`, the calls as a JSON array on standard input. Prints for each tool
// and call the payload's error, or what would be sent.

const { createRequire } = require("node:module");
const { readFileSync } = require("node:fs");

const from = createRequire(process.argv[2] + "/package.json");
const { transform, fieldsToJsonSchema, validateSchema } = from("@segment/actions-core");
const calls = JSON.parse(readFileSync(0, "utf8"));

// Settings of an operator that have no default.
const TOOLS = {
  customerio: ["customerio", "createUpdateObject", {}],
  hubspot: ["hubspot", "upsertCompany", { associateContact: false }],
  salesforce: ["salesforce", "account", { operation: "create" }],
  attio: ["attio", "groupWorkspace", {}],
  hyperengage: ["hyperengage", "group", {}],
  inleads: ["inleads-ai", "group", {}],
};

async function through(folder, name, chosen, call) {
  const module = from(`@segment/action-destinations/dist/destinations/${folder}`);
  const action = (module.default ?? module).actions[name];
  const mapping = Object.fromEntries(Object.entries(action.fields).flatMap(([field, { default: value }]) => (value === undefined ? [] : [[field, value]])));
  const payload = transform({ ...mapping, ...chosen }, call);
  const sent = [];
  // Nothing leaves this machine: every request is kept, and answered as if nobody knew the company yet.
  const request = async (url, options = {}) => {
    sent.push({ url: String(url), method: options.method, body: options.json });
    if (options.method?.toUpperCase() === "PATCH") throw Object.assign(new Error("not found"), { response: { status: 404, data: {} } });
    return { status: 200, data: { id: "1", total: 0, results: [], data: { id: { record_id: "1" } } }, content: "{}" };
  };
  try {
    validateSchema(payload, fieldsToJsonSchema(action.fields), { throwIfInvalid: true });
    await action.perform(request, { payload, settings: { instanceUrl: "https://example.my.salesforce.com", accessToken: "x" }, auth: {} });
    return { payload, sent };
  } catch (error) {
    return { payload, error: error.message };
  }
}

(async () => {
  const all = {};
  for (const [tool, [folder, name, chosen]] of Object.entries(TOOLS)) {
    all[tool] = [];
    for (const call of calls) all[tool].push(await through(folder, name, chosen, call));
  }
  console.log(JSON.stringify(all));
})();
