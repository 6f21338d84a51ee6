//! Which characters do a file's bytes mean, and where is it refused?

use super::{hold, refused, sent, utf16};

const CONVERT: &str = "encoding = \"windows-1252\"";

#[test]
fn encodings() {
    let marked = |mark: &[u8], rest: Vec<u8>| [mark.to_vec(), rest].concat();
    let text = "id,name\n007,Zoë 🎉\n";
    let groups = r#"{"007":{"name":"Zoë 🎉"}}"#;
    let mut late = b"id,name\n".to_vec();
    for n in 0..21_000 {
        late.extend_from_slice(format!("acct_{n},Name\n").as_bytes());
    }
    late.extend_from_slice(b"acct_x,\xd6sterreich\n");
    hold(&[
        sent("utf8", "a.csv", text, "name", groups),
        sent("utf8_marked", "a.csv", marked(b"\xef\xbb\xbf", text.as_bytes().to_vec()), "name", groups),
        sent(
            "utf8_marked_and_quoted",
            "a.csv",
            "\u{feff}\"id\",\"name\"\n\"007\",\"x\"\n",
            "name",
            r#"{"007":{"name":"x"}}"#,
        ),
        sent("a_mark_within", "a.csv", "id,name\n007,\u{feff}x\n", "name", "{\"007\":{\"name\":\"\u{feff}x\"}}"),
        sent("utf16le", "a.csv", marked(b"\xff\xfe", utf16(text, false)), "name", groups)
            .source("encoding = \"utf-16le\""),
        sent("utf16be", "a.csv", marked(b"\xfe\xff", utf16(text, true)), "name", groups)
            .source("encoding = \"utf-16be\""),
        sent("utf16_the_mark_knows_better", "a.csv", marked(b"\xfe\xff", utf16(text, true)), "name", groups)
            .source("encoding = \"utf-16le\""),
        sent("utf16_without_mark", "a.csv", utf16(text, false), "name", groups).source("encoding = \"utf-16le\""),
        refused(
            "utf16_unsaid",
            "a.csv",
            marked(b"\xff\xfe", utf16(text, false)),
            "DIR/a.csv: this is UTF-16LE, not UTF-8",
            "encoding = \"utf-16le\"",
        ),
        refused(
            "utf16_unsaid_unmarked",
            "a.csv",
            utf16(text, true),
            "DIR/a.csv: this is UTF-16BE, not UTF-8",
            "encoding = \"utf-16be\"",
        ),
        refused(
            "utf16_half_a_pair",
            "a.csv",
            marked(b"\xff\xfe", [utf16("id,name\n007,", false), vec![0x00, 0xd8], utf16("x\n", false)].concat()),
            "DIR/a.csv, line 2, column 2 (`name`): this is not UTF-16LE",
            CONVERT,
        )
        .source("encoding = \"utf-16le\""),
        refused(
            "utf32",
            "a.csv",
            b"\xff\xfe\0\0i\0\0\0",
            "DIR/a.csv: this is UTF-32, not text",
            "convert the file to UTF-8",
        ),
        sent("latin1", "a.csv", b"id,name\n007,Caf\xe9\n", "name", r#"{"007":{"name":"Café"}}"#)
            .source("encoding = \"latin-1\""),
        sent("windows_1252", "a.csv", b"id,name\n007,\x80 \x93Caf\xe9\x94\n", "name", r#"{"007":{"name":"€ “Café”"}}"#)
            .source("encoding = \"windows-1252\"")
            .says("is read as windows-1252"),
        refused(
            "windows_1252_has_no_such",
            "a.csv",
            b"id,name\n007,\x81\n",
            "DIR/a.csv, line 2, column 2 (`name`): this is not windows-1252",
            CONVERT,
        )
        .source("encoding = \"windows-1252\""),
        refused(
            "not_utf8",
            "a.csv",
            b"id,plan,name\na,pro,x\nb,pro,Caf\xe9\n",
            "DIR/a.csv, line 3, column 3 (`name`): this is not UTF-8",
            CONVERT,
        ),
        refused(
            "not_utf8_in_the_header",
            "a.csv",
            b"id,name,caf\xe9\n",
            "DIR/a.csv, line 1, column 3: this is not UTF-8",
            CONVERT,
        ),
        refused("not_utf8_late", "a.csv", late, "DIR/a.csv, line 21002, column 2 (`name`): this is not UTF-8", CONVERT),
        refused(
            "a_character_cut_off",
            "a.csv",
            b"id,name\n007,Caf\xc3",
            "DIR/a.csv, line 2, column 2 (`name`): this is not UTF-8",
            CONVERT,
        ),
        refused(
            "json_not_utf8",
            "a.ndjson",
            b"{\"id\":\"a\",\"name\":\"x\"}\n{\"id\":\"b\",\"name\":\"Caf\xe9\"}\n",
            "DIR/a.ndjson, line 2, column 22: this is not UTF-8",
            CONVERT,
        ),
        sent(
            "json_utf16",
            "a.json",
            marked(b"\xff\xfe", utf16("[{\"id\":\"007\",\"name\":\"Zoë\"}]", false)),
            "name",
            r#"{"007":{"name":"Zoë"}}"#,
        )
        .source("encoding = \"utf-16le\""),
        sent(
            "json_marked",
            "a.json",
            "\u{feff}[{\"id\":\"007\",\"name\":\"Zoë\"}]",
            "name",
            r#"{"007":{"name":"Zoë"}}"#,
        ),
        sent(
            "composed_and_decomposed",
            "a.csv",
            "id,name\n1,Zo\u{eb}\n2,Zoe\u{308}\n",
            "name",
            "{\"1\":{\"name\":\"Zo\u{eb}\"},\"2\":{\"name\":\"Zoe\u{308}\"}}",
        ),
    ]);
}
