//! What does a source of the type `files` change by what it says of its files?

use std::time::{Duration, SystemTime};

use super::{hold, project, refused, sent};

const ZSTD: &[u8] = include_bytes!("workbooks/frames.csv.zst");

#[test]
fn csv_options_say_how_text_is_written() {
    hold(&[
        sent(
            "german",
            "a.csv",
            b"Bericht vom 1.4.\nStand: heute\nid;name;mrr;since;seen\na;M\xfcller;1234,5;31.12.2025;01.04.2026 10:30\nb;\\N;7,25;1.2.2026;\n",
            "name mrr since seen",
            r#"{"a":{"name":"Müller","mrr":1234.5,"since":"2025-12-31","seen":"2026-04-01T10:30:00Z"},
                "b":{"name":null,"mrr":7.25,"since":"2026-02-01","seen":null}}"#,
        )
        .files(
            "csv = { skip = 2, delimiter = ';', encoding = 'windows-1252', decimal = ',', null = '\\N', \
             dateformat = '%d.%m.%Y', timestampformat = '%d.%m.%Y %H:%M' }",
        ),
        sent(
            "one_date_of_another_kind",
            "a.csv",
            "id,since\na,31.12.2025\nb,unknown\n",
            "since",
            r#"{"a":{"since":"31.12.2025"},"b":{"since":"unknown"}}"#,
        )
        .files("csv = { dateformat = '%d.%m.%Y' }"),
        sent(
            "several_words_for_none",
            "a.csv",
            "id,n\na,NULL\nb,-\nc,7\n",
            "n",
            r#"{"a":{"n":null},"b":{"n":null},"c":{"n":7}}"#,
        )
        .files("csv = { null = ['NULL', '-'] }"),
        sent(
            "all_text",
            "a.csv",
            "id,n,flag,day\n1,1.50,true,2026-03-04\n",
            "n flag day",
            r#"{"1":{"n":"1.50","flag":"true","day":"2026-03-04"}}"#,
        )
        .files("csv = { all_text = true }"),
        sent(
            "all_text_and_declared",
            "a.csv",
            "id,n\n1,1.50\n",
            "n:number",
            r#"{"1":{"n":1.5}}"#,
        )
        .files("csv = { all_text = true }"),
        sent(
            "backslashes",
            "a.csv",
            "id,name\na,\"say \\\"hi\\\", \\\\ now\"\n",
            "name",
            r#"{"a":{"name":"say \"hi\", \\ now"}}"#,
        )
        .files("csv = { escape = '\\' }"),
        sent(
            "a_condition_on_a_date",
            "a.csv",
            "id,since\na,31.12.2025\nb,01.06.2026\n",
            "since",
            r#"{"b":{"since":"2026-06-01"}}"#,
        )
        .files("csv = { dateformat = '%d.%m.%Y' }")
        .more("where = \"since > DATE '2026-01-01'\""),
        sent(
            "zstd_of_several_frames",
            "a.csv.zst",
            ZSTD,
            "name",
            r#"{"a0":{"name":"Acme 0"},"a1":{"name":"Acme 1"},"a2":{"name":"Acme 2"}}"#,
        )
        .files(""),
        refused(
            "zstd_cut_off",
            "a.csv.zst",
            &ZSTD[..ZSTD.len() - 6],
            "a.csv.zst, line 1, column 1: the packed data is damaged or cut off",
            "write the file again",
        )
        .files(""),
    ]);
}

#[test]
fn encodings_of_other_countries_are_read_exactly() {
    let case = |name, bytes: &[u8], settings, groups| sent(name, "a.csv", bytes, "name", groups).files(settings);
    hold(&[
        case(
            "polish",
            b"id,name\na,\xa3\xf3d\x9f\n",
            "csv = { encoding = 'windows-1250' }",
            r#"{"a":{"name":"Łódź"}}"#,
        ),
        case(
            "russian",
            b"id,name\na,\xcc\xee\xf1\xea\xe2\xe0\n",
            "csv = { encoding = 'windows-1251' }",
            r#"{"a":{"name":"Москва"}}"#,
        ),
        case("euro", b"id,name\na,5 \xa4\n", "csv = { encoding = 'iso-8859-15' }", r#"{"a":{"name":"5 €"}}"#),
        case(
            "excel_for_mac",
            b"id,name\ra,Z\x9frich\r",
            "csv = { encoding = 'macintosh' }",
            r#"{"a":{"name":"Zürich"}}"#,
        ),
        // The second byte of this letter is a backslash, that of the next one a vertical bar.
        case(
            "japanese",
            b"id|name\na|\x83\x5c\x83\x7c\n",
            "csv = { encoding = 'shift_jis', delimiter = '|' }",
            r#"{"a":{"name":"ソポ"}}"#,
        )
        .says("is read as shift_jis"),
        case("chinese", b"id,name\na,\xb1\xb1\xbe\xa9\n", "csv = { encoding = 'gb18030' }", r#"{"a":{"name":"北京"}}"#),
        refused(
            "not_japanese",
            "a.csv",
            b"id,name\na,b\nb,\x83\x20\n",
            "a.csv, line 3, column 2 (`name`): this is not shift_jis",
            "`encoding = \"windows-1252\"`",
        )
        .files("csv = { encoding = 'shift_jis' }"),
        refused(
            "half_a_character",
            "a.csv",
            b"id,name\na,\x83",
            "a.csv, line 2, column 2 (`name`): this is not shift_jis",
            "encoding",
        )
        .files("csv = { encoding = 'shift_jis' }"),
    ]);
}

#[test]
fn only_the_newest_file_of_a_pattern_is_read() {
    let newest = sent("newest", "accounts_2025-12-31.csv", "id,name\nc,older\n", "name", r#"{"a":{"name":"new"}}"#)
        .with("accounts_2026-01-01.csv", "id,name\na,old\nb,old\n")
        .with("accounts_2026-01-02.csv", "id,name\na,new\n")
        .with("zzz.csv", "id,name\nz,other\n")
        .table("accounts_*.csv")
        .files("latest = true")
        .says("accounts_2026-01-02.csv is read, the newest of 3 files that match");
    let all =
        sent("all", "d=1/a.csv", "id,name\na,x\n", "name d", r#"{"a":{"name":"x","d":1},"b":{"name":"y","d":2}}"#)
            .with("d=2/a.csv", "id,name\nb,y\n")
            .table("*/a.csv")
            .files("");
    // Of files that changed at one time the last by name is the newest.
    let cases = [newest, all];
    hold(&cases);
    let place = project(&cases[..1]);
    let day = |days: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 * (20_000 - days));
    for (file, days) in [("accounts_2026-01-02.csv", 3), ("accounts_2026-01-01.csv", 1), ("accounts_2025-12-31.csv", 2)]
    {
        let file = std::fs::File::options().append(true).open(place.path(&format!("newest/{file}"))).unwrap();
        file.set_modified(day(days)).unwrap();
    }
    let output = place.run(&["plan", "newest", "--json"]);
    assert!(
        output.stdout.contains("\"name\":\"old\"") && !output.stdout.contains("\"name\":\"new\""),
        "{}",
        output.all()
    );
    let output = place.run(&["check", "--connect"]);
    assert!(
        output.all().contains("accounts_2026-01-01.csv is read, the newest of 3 files that match, last changed"),
        "{}",
        output.all()
    );
}

#[test]
fn mistakes_in_the_settings_are_found_without_reading() {
    for (settings, what, advice) in [
        ("csv = { delimeter = ';' }", "`csv` has no option `delimeter`", "did you mean `delimiter`?"),
        ("csv = { dateformat = '%d.%m' }", "`csv.dateformat` does not say day, month and year", "%d.%m.%Y"),
        ("excel = { sheets = 'a' }", "`excel` has no option `sheets`", "did you mean `sheet`?"),
        ("csv = ';'", "`csv` must be a table", "key = \"value\""),
    ] {
        let place = project(&[sent("one", "a.csv", "id,name\na,b\n", "name", "{}").files(Box::leak(settings.into()))]);
        let output = place.run(&["check"]);
        assert_eq!(output.code, Some(2), "{settings}");
        assert!(output.all().contains(what) && output.all().contains(advice), "{settings}: {}", output.all());
    }
}

#[test]
fn a_file_as_the_folder_says_what_to_write() {
    let place = project(&[sent("one", "a.csv", "id,name\na,b\n", "name", "{}").files("")]);
    let settings = std::fs::read_to_string(place.path("groupcast.toml")).unwrap();
    place.write("groupcast.toml", &settings.replace("path = \"one\"", "path = \"one/a.csv\""));
    let output = place.run(&["check", "--connect"]);
    assert!(output.all().contains("`path` is a file, and files are in a folder"), "{}", output.all());
}
