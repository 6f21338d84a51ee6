"""Pages of the reference: every key of our TOML files and of what `--json` prints, from the JSON Schemas that the program has.

A key without a description is an error, so that none is added without one.
"""

import json
import logging
import re

log = logging.getLogger("mkdocs.hooks")


def cell(text):
    return re.sub(r"\s*\n\s*", " ", text).replace("|", "\\|").strip()


def code(value):
    """A value of TOML, in one line."""
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, dict):
        text = "{ " + ", ".join(f"{key} = {code(of)[1:-1]}" for key, of in value.items()) + " }"
    elif isinstance(value, list):
        text = "[" + ", ".join(code(of)[1:-1] for of in value) + "]"
    else:
        text = json.dumps(value)
    return f"`{text}`"


def kind(schema):
    """What a value may be, in words."""
    if "enum" in schema:
        return " · ".join(code(value) for value in schema["enum"])
    if "const" in schema:
        return code(schema["const"])
    if "$ref" in schema:
        return {"trait": "[a trait](#a-trait)", "member": "[a member](#a-trait)"}.get(schema["$ref"].rsplit("/", 1)[-1], "")
    if "cron" in schema.get("properties", {}):
        return "[a table](#a-schedule)"
    for word in ("anyOf", "oneOf"):
        if word in schema and "properties" not in schema:
            # A reference to a variable may stand for any value; that is said once, at the top of the page.
            parts = [kind(one) for one in schema[word] if one.get("pattern") != r"\$\{"]
            return " or ".join(dict.fromkeys(part for part in parts if part))
    pattern = schema.get("pattern", "")
    match schema.get("type"):
        case "boolean":
            return "`true` · `false`"
        case "integer":
            least, most = schema.get("minimum"), schema.get("maximum")
            bounds = f", {least:,} to {most:,}" if most is not None else f", at least {least:,}" if least is not None else ""
            return f"whole number{bounds}"
        case "number":
            if schema.get("maximum") == 1:
                return "share, 0 to 1"
            return "number above 0" if "exclusiveMinimum" in schema else "number"
        case "array":
            return f"list of {kind(schema['items'])}" if schema.get("items") else "list"
        case "object":
            return "table"
        case "string" if "smhdw" in pattern:
            return "duration: a number and `s`, `m`, `h`, `d` or `w`"
        case "string" if "%" in pattern:
            return "percentage"
        case "string" if "[bB]" in pattern:
            return "size: a number and `KB`, `MB` or `GB`"
        case "string" if pattern.startswith("^https"):
            return "URL"
        case "string" if pattern.startswith(r"\$\{"):
            return "secret, by reference"
        case "string":
            return "text"
    return "any value"


def table(properties, required, place):
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, schema in properties.items():
        description = schema.get("description", "")
        if not description and "properties" not in schema and key != "type":
            log.warning("the reference has no description of `%s.%s`: write one in the docs, beside the key", place, key)
        default = code(schema["default"]) if "default" in schema else "required" if key in required or schema.get("x-required") else "–"
        example = f" Example: {code(schema['examples'][0])}" if schema.get("examples") else ""
        rows.append(f"| `{key}` | {cell(kind(schema))} | {cell(default)} | {cell(description + '.' * bool(example) + example)} |")
    return "\n".join(rows) + "\n"


def sections(schema, path=""):
    """A heading and table for each section, with those inside it."""
    leaves = {key: of for key, of in schema["properties"].items() if not is_section(of)}
    if leaves:
        heading = f"[{path}]" if path else "At the top"
        about = "A guard stops the run before anything is sent, when what its row says is the case.\n\n" if path.endswith("guards") else ""
        yield f"## {heading}\n\n{about}" + table(leaves, schema.get("required", []), path or "top")
    for key, of in schema["properties"].items():
        below = f"{path}.{key}" if path else key
        if "properties" in of:
            yield from sections(of, below)
        elif key in ("sources", "destinations"):
            what = of["additionalProperties"]
            for one in what["oneOf"]:
                kept = {name: of for name, of in one["properties"].items() if name != "type"}
                heading = f"[{key}.NAME] with type = \"{one['title']}\""
                yield f"## {heading}\n\n" + table(kept, one["required"], f"{key}.{one['title']}")
        elif of.get("type") == "array" and "properties" in of.get("items", {}):
            yield from sections(of["items"], f"[{below}]")


def is_section(schema):
    return "properties" in schema or "oneOf" in schema.get("additionalProperties", {}) or (
        schema.get("type") == "array" and "properties" in schema.get("items", {})
    )


INTRO = "Generated from the JSON Schema that `groupcast schema {of}` prints. {about}\n\n"
PAGES = {
    "project": ("reference/settings.md", "Every key of groupcast.toml", "Text may refer to the environment (`${NAME}`, `${file:…}`) wherever it stands. [Configuration](../configuration.md) explains what the sections are for."),
    "mapping": ("reference/mapping.md", "Every key of a mapping", "[Configuration](../configuration.md#mappings) explains what the sections are for."),
    "test": ("reference/test.md", "Every key of a mapping's tests", "[Tests of mappings](../testing.md) explains them."),
}


def file_page(of, schema):
    path, title, about = PAGES[of]
    text = f"# {title}\n\n" + INTRO.format(of=of, about=about) + "\n".join(sections(schema))
    if of == "mapping":
        trait = next(one for one in schema["definitions"]["trait"]["anyOf"] if "column" in one.get("properties", {}))
        schedule = next(one for one in schema["properties"]["schedule"]["anyOf"] if "properties" in one)
        text += "\n## A schedule\n\n`schedule` is a cron expression, or a table with one of `cron`, `every`, `after`:\n\n"
        text += table(schedule["properties"], [], "schedule")
        text += "\n## A trait\n\nA trait is a column's name, a table of these keys, or an object: a table of members, each written like a trait.\n\n"
        text += table(trait["properties"], [], "traits.NAME")
    return path, text


def anchor(name):
    return re.sub(r"[^\w-]", "", name.lower())


def shape_kind(schema):
    """What a value of the output is, with links to the shapes."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{anchor(name)})"
    if "enum" in schema:
        return " · ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return " or ".join(dict.fromkeys(shape_kind(one) for one in schema[word]))
    types = schema.get("type")
    types = types if isinstance(types, list) else [types]
    words = []
    for of in types:
        if of == "array":
            words.append(f"list of {shape_kind(schema.get('items', {}))}")
        elif of == "object" and isinstance(schema.get("additionalProperties"), dict):
            words.append(f"object: by name, {shape_kind(schema['additionalProperties'])}")
        elif of == "string":
            words.append({"date-time": "time"}.get(schema.get("format"), "text"))
        else:
            words.append({None: "any JSON", "object": "object", "integer": "integer", "number": "number", "boolean": "boolean", "null": "null"}[of])
    return " or ".join(words)


def shape_table(schema, place):
    rows = ["| key | value | meaning |", "|---|---|---|"]
    for key, of in schema.get("properties", {}).items():
        if key == "type" and "const" in of:
            of = of | {"description": "which kind of line this is"}
        if not of.get("description") and "$ref" not in of:
            log.warning("the reference has no description of `%s` of %s: write a doc comment", key, place)
        may_be_absent = "" if key in schema.get("required", []) else " *"
        words = shape_kind(of).removesuffix(" or null") if may_be_absent else shape_kind(of)
        rows.append(f"| `{key}`{may_be_absent} | {cell(words)} | {cell(of.get('description', ''))} |")
    return "\n".join(rows) + "\n"


def shape(schema, place):
    if "properties" in schema:
        yield shape_table(schema, place)
    choices = schema.get("oneOf") or schema.get("anyOf") or []
    for choice in choices:
        if "properties" in choice:
            if choice.get("description"):
                yield f"{choice['description']}\n"
            yield shape_table(choice, place)
    if choices and not any("properties" in choice for choice in choices):
        if all("const" in choice for choice in choices):
            rows = [f"| `{json.dumps(choice['const'])}` | {cell(choice.get('description', ''))} |" for choice in choices]
            yield "\n".join(["| value | meaning |", "|---|---|", *rows]) + "\n"
        else:
            yield shape_kind(schema) + "\n"
    if "properties" not in schema and not choices:
        yield shape_kind({key: of for key, of in schema.items() if key != "description"}) + "\n"


def output_page(schema):
    parts = [
        "# JSON output\n",
        f"Version {schema['x-version']} of the shapes. Generated from the JSON Schema that `groupcast schema output` prints; a test holds the "
        "commands to it. The version grows with a change that a program may trip over: a key that is renamed or gone, or that means "
        "something else; [the changelog](../changelog.md) lists these. New keys come without one, so ignore those you do not know. Keys with "
        "* may be absent. Times are RFC 3339 in UTC.\n",
        "With `--json`, results are on standard output, one object, or one per line where that is noted. A failure is an object with `error` "
        "or `problems`, on standard output too. The [HTTP API](../api.md) uses the same shapes.\n",
    ]
    for command, of in schema["properties"].items():
        title = "Any command that fails" if command == "any" else f"groupcast {command}"
        lines = " One object per line." if of.get("x-lines") else ""
        name = of["$ref"].rsplit("/", 1)[-1]
        parts.append(f"## {title}\n\n{of.get('description', '')}{lines}\n")
        parts.extend(shape(schema["$defs"][name], name))
    shown = {of["$ref"].rsplit("/", 1)[-1] for of in schema["properties"].values()}
    linked = {name for part in json_refs(schema["$defs"]) for name in [part]}
    parts.append("## Shapes\n")
    for name, of in schema["$defs"].items():
        if name in linked or name not in shown:
            parts.append(f"### {name}\n\n{of.get('description', '')}\n")
            parts.extend(shape(of, name))
    return "reference/json.md", "\n".join(parts)


def json_refs(value):
    if isinstance(value, dict):
        for key, of in value.items():
            if key == "$ref":
                yield of.rsplit("/", 1)[-1]
            else:
                yield from json_refs(of)
    elif isinstance(value, list):
        for of in value:
            yield from json_refs(of)


def pages(run):
    """Path and Markdown of each page; `run` gives what a command of the program prints."""
    for of in PAGES:
        yield file_page(of, json.loads(run(["schema", of])))
    yield output_page(json.loads(run(["schema", "output"])))
