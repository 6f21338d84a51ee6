//! What do JSON files hold, and where are they refused?

use super::{gzip, hold, refused, sent};

#[test]
fn forms() {
    hold(&[
        sent("ndjson", "a.ndjson", "{\"id\":\"007\",\"n\":1}\n{\"id\":\"8\",\"n\":2}\n", "n", r#"{"007":{"n":1},"8":{"n":2}}"#).says("one object after the other"),
        sent("jsonl_with_blank_lines", "a.jsonl", "\n{\"id\":\"a\",\"n\":1}\r\n\r\n{\"id\":\"b\",\"n\":2}", "n", r#"{"a":{"n":1},"b":{"n":2}}"#),
        sent("an_array", "a.json", "[{\"id\":\"a\",\"n\":1},\n {\"id\":\"b\",\"n\":2}]\n", "n", r#"{"a":{"n":1},"b":{"n":2}}"#).says("an array of objects"),
        sent("pretty_array", "a.json", "[\n  {\n    \"id\": \"a\",\n    \"n\": 1\n  },\n  {\n    \"id\": \"b\",\n    \"n\": 2\n  }\n]", "n", r#"{"a":{"n":1},"b":{"n":2}}"#),
        sent("pretty_objects", "a.json", "{\n  \"id\": \"a\",\n  \"n\": 1\n}\n{\n  \"id\": \"b\",\n  \"n\": 2\n}\n", "n", r#"{"a":{"n":1},"b":{"n":2}}"#),
        sent("objects_without_line_ends", "a.json", "{\"id\":\"a\",\"n\":1}{\"id\":\"b\",\"n\":2}", "n", r#"{"a":{"n":1},"b":{"n":2}}"#),
        sent("an_empty_array", "a.json", "[{\"id\":\"a\"}]", "n = { const = 1 }", r#"{"a":{"n":1}}"#),
        sent("packed", "a.json.gz", gzip("[{\"id\":\"007\",\"n\":1.10}]"), "n", r#"{"007":{"n":1.1}}"#),
        refused("no_rows", "a.json", "[]", "DIR/a.json: the file has no rows and no columns", "complete"),
        refused("wrapped", "a.json", "{\"data\":[{\"id\":\"a\",\"name\":\"Acme\"}],\"paging\":null}", "the model has no column `id` (and 1 more)", "it has `data` and `paging`")
            .says("extract them: `sql = \"SELECT row->>'account_id' AS account_id, … FROM (SELECT unnest(from_json(json->'data', '[\\\"JSON\\\"]')) AS row FROM read_json_objects('wrapped/a.json'))\"`"),
        sent("unwrapped", "a.json", "{\"data\":[{\"id\":\"007\",\"name\":\"Acme\"}]}", "name", r#"{"007":{"name":"Acme"}}"#)
            .sql("SELECT row->>'id' AS id, row->>'name' AS name FROM (SELECT unnest(from_json(json->'data', '[\"JSON\"]')) AS row FROM read_json_objects('DIR/a.json'))"),
        refused("an_array_of_numbers", "a.json", "[1,2]", "DIR/a.json, line 1, column 2: a value that is not an object, and only objects can be rows", "one object per group"),
        refused("arrays_on_lines", "a.ndjson", "{\"id\":\"a\",\"name\":1}\n[\"b\",2]\n", "DIR/a.ndjson, line 2, column 1: a value that is not an object, and only objects can be rows", "one object per group"),
        refused("html", "a.json", "<html>", "DIR/a.json, line 1, column 1: a value that is not an object, and only objects can be rows", "one object per group"),
        refused("cut_off", "a.ndjson", "{\"id\":\"a\",\"name\":1}\n{\"id\":\"b\",\"na", "DIR/a.ndjson, line 2: the file ends within an object that begins here", "write the file again"),
        refused("array_cut_off", "a.json", "[{\"id\":\"a\",\"name\":1},", "DIR/a.json, line 1, column 22: the file ends within an object that begins here", "write the file again"),
        refused("a_comma_too_many", "a.json", "[{\"id\":\"a\",\"name\":1},]", "DIR/a.json, line 1, column 22: this is not JSON: a comma behind the last object", "correct the line"),
        refused("a_comma_too_few", "a.json", "[{\"id\":\"a\",\"name\":1} {\"id\":\"b\"}]", "DIR/a.json, line 1, column 22: this is not JSON: no comma between two objects of the array", "correct the line"),
        refused("text_behind_the_array", "a.json", "[{\"id\":\"a\",\"name\":1}] x", "DIR/a.json, line 1, column 23: this is not JSON: text behind the array", "correct the line"),
        refused("pythons_words", "a.ndjson", "{\"id\":\"a\",\"name\":1}\n{\"id\":\"b\",\"name\":None}\n", "DIR/a.ndjson, line 2, column 18: this is not JSON: expected value", "correct the line"),
        refused("single_quotes", "a.ndjson", "{\"id\":\"a\",\"name\":1}\n{'id':'b'}\n", "DIR/a.ndjson, line 2, column 2: this is not JSON: key must be a string", "correct the line"),
        refused("a_line_break_in_a_text", "a.ndjson", "{\"id\":\"a\",\"name\":\"x\ny\"}\n", "DIR/a.ndjson, line 1, column 19: this is not JSON: control character (\\u0000-\\u001F) found while parsing a string", "correct the line"),
        refused("nan", "a.ndjson", "{\"id\":\"a\",\"name\":NaN}\n", "DIR/a.ndjson, line 1, column 18: this is not JSON: expected value", "correct the line"),
        refused("twice_in_an_object", "a.ndjson", "{\"id\":\"a\",\"name\":1}\n{\"id\":\"b\",\"name\":1,\"name\":2}\n", "DIR/a.ndjson, line 2: the object that begins here has `name` twice", "it is not clear which"),
    ]);
}

#[test]
fn values() {
    hold(&[
        sent(
            "json_digits",
            "a.ndjson",
            "{\"id\":\"a\",\"n\":12345678901234567.89}\n{\"id\":\"b\",\"n\":12345678901234567890123}\n{\"id\":\"c\",\"n\":1.10}\n{\"id\":\"d\",\"n\":1e2}\n{\"id\":\"e\",\"n\":-0}\n{\"id\":\"f\",\"n\":1.0}\n",
            "n",
            r#"{"a":{"n":12345678901234567.89},"b":{"n":12345678901234567890123},"c":{"n":1.1},"d":{"n":100},"e":{"n":0},"f":{"n":1}}"#,
        ),
        sent(
            "json_digits_as_text",
            "a.ndjson",
            "{\"id\":\"a\",\"n\":12345678901234567.89}\n{\"id\":\"c\",\"n\":1.10}\n",
            "n:string",
            r#"{"a":{"n":"12345678901234567.89"},"c":{"n":"1.10"}}"#,
        ),
        sent(
            "json_keys",
            "a.ndjson",
            "{\"id\":12345678901234567890,\"n\":1}\n{\"id\":\"007\",\"n\":2}\n{\"id\":1.0,\"n\":3}\n",
            "n",
            r#"{"12345678901234567890":{"n":1},"007":{"n":2},"1.0":{"n":3}}"#,
        ),
        refused(
            "json_key_that_is_none",
            "a.ndjson",
            "{\"id\":\"a\",\"name\":1}\n{\"id\":true,\"name\":2}\n",
            "DIR/a.ndjson, line 2: `id` is neither text nor a number, and cannot be a key",
            "another column as the key",
        ),
        refused(
            "json_key_that_nests",
            "a.ndjson",
            "{\"id\":{\"x\":1},\"name\":1}\n",
            "column `id` is JSON, which cannot be a group's key",
            "cast it to text",
        ),
        sent(
            "json_digits_inside",
            "a.ndjson",
            "{\"id\":\"a\",\"o\":{\"n\":12345678901234567.89,\"l\":[1.10,1e2]}}\n",
            "o",
            r#"{"a":{"o":{"n":12345678901234567.89,"l":[1.1,100]}}}"#,
        ),
        sent(
            "members_that_come_and_go",
            "a.ndjson",
            "{\"id\":\"a\",\"n\":1}\n{\"id\":\"b\"}\n{\"id\":\"c\",\"m\":\"x\"}\n{\"id\":\"d\",\"n\":null}\n",
            "n m",
            r#"{"a":{"n":1,"m":null},"b":{"n":null,"m":null},"c":{"n":null,"m":"x"},"d":{"n":null,"m":null}}"#,
        ),
        sent(
            "several_types",
            "a.ndjson",
            "{\"id\":\"a\",\"v\":5}\n{\"id\":\"b\",\"v\":\"n/a\"}\n{\"id\":\"c\",\"v\":true}\n",
            "v",
            r#"{"a":{"v":5},"b":{"v":"n/a"},"c":{"v":true}}"#,
        )
        .says("`v` has values of several types, and each is sent as its own"),
        sent(
            "several_types_as_text",
            "a.ndjson",
            "{\"id\":\"a\",\"v\":5.0}\n{\"id\":\"b\",\"v\":\"n/a\"}\n{\"id\":\"c\",\"v\":true}\n",
            "v:string",
            r#"{"a":{"v":"5.0"},"b":{"v":"n/a"},"c":{"v":"true"}}"#,
        ),
        sent(
            "several_types_as_number",
            "a.ndjson",
            "{\"id\":\"a\",\"v\":5}\n{\"id\":\"b\",\"v\":\"6.50\"}\n",
            "v:number",
            r#"{"a":{"v":5},"b":{"v":6.5}}"#,
        ),
        sent(
            "strings_stay_strings",
            "a.ndjson",
            "{\"id\":\"a\",\"v\":\"007\",\"d\":\"2026-03-04\",\"t\":\"2026-03-04 17:30:00\",\"b\":\"true\",\"n\":\"5\",\"e\":\"\"}\n",
            "v d t b n e",
            r#"{"a":{"v":"007","d":"2026-03-04","t":"2026-03-04 17:30:00","b":"true","n":"5","e":""}}"#,
        ),
        sent(
            "json_booleans",
            "a.ndjson",
            "{\"id\":\"a\",\"b\":true}\n{\"id\":\"b\",\"b\":false}\n",
            "b",
            r#"{"a":{"b":true},"b":{"b":false}}"#,
        ),
        sent(
            "escapes",
            "a.ndjson",
            "{\"id\":\"a\",\"v\":\"\\u00e9 \\ud83c\\udf89 \\\"q\\\" \\\\ \\/ \\n\"}\n",
            "v",
            "{\"a\":{\"v\":\"é 🎉 \\\"q\\\" \\\\ / \\n\"}}",
        ),
        sent(
            "escapes_in_names",
            "a.ndjson",
            "{\"\\u0069d\":\"a\",\"n\\u00e4me\":\"x\"}\n",
            "n = \"näme\"",
            r#"{"a":{"n":"x"}}"#,
        ),
        refused(
            "half_a_character",
            "a.ndjson",
            "{\"id\":\"a\",\"name\":\"\\ud83c\"}\n",
            "DIR/a.ndjson, line 1: `name` has half a character (`\\ud800` to `\\udfff` come in pairs)",
            "correct the file",
        ),
        sent(
            "lists_and_objects",
            "a.ndjson",
            "{\"id\":\"a\",\"l\":[\"x\",\"y\"],\"o\":{\"b\":1,\"a\":null}}\n{\"id\":\"b\",\"l\":[],\"o\":{}}\n",
            "l o",
            r#"{"a":{"l":["x","y"],"o":{"a":null,"b":1}},"b":{"l":[],"o":{}}}"#,
        ),
        sent(
            "mongo_export",
            "a.json",
            "{\"_id\":{\"$oid\":\"507f1f77bcf86cd799439011\"},\"id\":\"a\",\"n\":{\"$numberLong\":\"12\"}}\n",
            "n",
            r#"{"a":{"n":{"$numberLong":"12"}}}"#,
        ),
        sent(
            "json_times_as_cursor",
            "a.ndjson",
            "{\"id\":\"a\",\"t\":\"2026-03-04T17:30:00.000Z\",\"n\":1}\n",
            "n t",
            r#"{"a":{"n":1,"t":"2026-03-04T17:30:00.000Z"}}"#,
        )
        .more("[incremental]\ncursor = \"t\"\n"),
    ]);
}
