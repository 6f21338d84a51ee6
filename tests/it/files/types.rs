//! Do values arrive as they stand in the file, and as which JSON type?

use super::{hold, sent};

/// Ten thousand ordinary lines, then the rows that matter: beyond every sample.
fn late(header: &str, ordinary: &str, last: &str) -> String {
    let mut text = format!("{header}\n");
    for n in 1..=21_000 {
        text.push_str(&ordinary.replace('#', &n.to_string()));
        text.push('\n');
    }
    text.push_str(last);
    text
}

#[test]
fn numbers_keep_their_digits() {
    hold(&[
        sent("ints", "a.csv", "id,n\na,1\nb,-20\nc,0\n", "n", r#"{"a":{"n":1},"b":{"n":-20},"c":{"n":0}}"#)
            .says("Note model.table: ints/a.csv is read as UTF-8, delimiter `,`, quote `\"`, lines end with newlines: 3 rows; by its values `n` number")
            .says("`as` in the mapping decides it for good"),
        sent("int64", "a.csv", "id,n\na,9223372036854775807\nb,-9223372036854775808\n", "n", r#"{"a":{"n":9223372036854775807},"b":{"n":-9223372036854775808}}"#),
        sent("beyond_64_bits", "a.csv", "id,n\na,9223372036854775808\nb,1\n", "n", r#"{"a":{"n":"9223372036854775808"},"b":{"n":"1"}}"#)
            .says("`n` has 1 value with more digits than 64 bits hold, the first at beyond_64_bits/a.csv, line 2: it is sent as text"),
        sent("beyond_64_bits_declared", "a.csv", "id,n\na,12345678901234567890123\n", "n:number", r#"{"a":{"n":12345678901234567890123}}"#),
        sent("beyond_a_double", "a.csv", "id,n\na,1234567890123456.78\nb,0.12345678901234567890\n", "n:number", r#"{"a":{"n":1234567890123456.78},"b":{"n":0.1234567890123456789}}"#),
        sent("fractions", "a.csv", "id,n\na,1234567890123456.78\nb,12\n", "n", r#"{"a":{"n":1234567890123456.78},"b":{"n":12}}"#),
        sent("leading_zeros", "a.csv", "id,zip\na,02134\nb,90210\n", "zip", r#"{"a":{"zip":"02134"},"b":{"zip":"90210"}}"#),
        sent("leading_zeros_in_keys", "a.csv", "id,n\n007,1\n7,2\n", "n", r#"{"007":{"n":1},"7":{"n":2}}"#),
        sent("long_keys", "a.csv", "id,n\n12345678901234567890,1\n12345678901234567891,2\n", "n", r#"{"12345678901234567890":{"n":1},"12345678901234567891":{"n":2}}"#),
        sent("keys_as_written", "a.csv", "id,n\n1.10,1\n1.1,2\n1e3,3\n+5,4\n-0,5\n", "n", r#"{"1.10":{"n":1},"1.1":{"n":2},"1e3":{"n":3},"+5":{"n":4},"-0":{"n":5}}"#),
        sent("a_databases_decimals", "a.csv", "id,arr\na,19.90\nb,5.00\nc,0.00\n", "arr arr2=arr", "").traits("arr = \"arr\"\nas_text = { column = \"arr\", as = \"string\" }")
            .expecting(r#"{"a":{"arr":19.9,"as_text":"19.90"},"b":{"arr":5,"as_text":"5.00"},"c":{"arr":0,"as_text":"0.00"}}"#),
        sent("pythons_floats", "a.csv", "id,n\na,1.0\nb,2.25\nc,1e+16\nd,1.5e-07\n", "n", r#"{"a":{"n":1},"b":{"n":2.25},"c":{"n":10000000000000000},"d":{"n":0.00000015}}"#),
        sent("versions", "a.csv", "id,v\na,1.10\nb,1.9\n", "v", r#"{"a":{"v":"1.10"},"b":{"v":"1.9"}}"#)
            .says("`v` has numbers that are written in several ways"),
        sent("versions_declared", "a.csv", "id,v\na,1.10\nb,1.9\n", "v:number", r#"{"a":{"v":1.1},"b":{"v":1.9}}"#),
        sent("exponents", "a.csv", "id,n\na,1e400\nb,1e2\nc,5\n", "n", r#"{"a":{"n":"1e400"},"b":{"n":"1e2"},"c":{"n":"5"}}"#),
        sent("hexadecimal_ids", "a.csv", "id,n\na,12e3\nb,0x1f\n", "n", r#"{"a":{"n":"12e3"},"b":{"n":"0x1f"}}"#),
        sent("excels_lost_digits", "a.csv", "id,ext\na,1.23457E+17\n", "ext", r#"{"a":{"ext":"1.23457E+17"}}"#)
            .says("`ext` has 1 value in scientific notation, the first at excels_lost_digits/a.csv, line 2")
            .says("export the file without a spreadsheet"),
        sent("excels_lost_keys", "a.csv", "id,n\n1.23457E+17,1\n", "n", r#"{"1.23457E+17":{"n":1}}"#)
            .says("Warning group.key: `id` has 1 value in scientific notation"),
        sent("signs", "a.csv", "id,n\na,+5\nb,-0\nc,3\n", "n", r#"{"a":{"n":"+5"},"b":{"n":"-0"},"c":{"n":"3"}}"#),
        sent("underscores", "a.csv", "id,n\na,1_000.5\nb,2\n", "n", r#"{"a":{"n":"1_000.5"},"b":{"n":"2"}}"#),
        sent("thousands", "a.csv", "id,n\na,\"1,234,567\"\nb,\"2,000\"\n", "n", r#"{"a":{"n":"1,234,567"},"b":{"n":"2,000"}}"#)
            .says("with marks between the thousands, the first at thousands/a.csv, line 2: it is sent as text"),
        sent("thousands_declared", "a.csv", "id,n\na,\"1,234.50\"\nb,2000\n", "n:number", r#"{"a":{"n":1234.5},"b":{"n":2000}}"#),
        sent("percent", "a.csv", "id,n\na,12%\nb,3.5%\n", "n", r#"{"a":{"n":"12%"},"b":{"n":"3.5%"}}"#)
            .says("with a currency, a percent sign or parentheses"),
        sent("currency", "a.csv", "id,n\na,$5.00\nb,\"€1,200\"\n", "n", r#"{"a":{"n":"$5.00"},"b":{"n":"€1,200"}}"#)
            .says("with a currency, a percent sign or parentheses"),
        sent("accountants_parentheses", "a.csv", "id,n\na,(5.00)\nb,7.00\n", "n", r#"{"a":{"n":"(5.00)"},"b":{"n":"7.00"}}"#),
        sent("infinite", "a.csv", "id,n\na,inf\nb,Infinity\nc,1\n", "n", r#"{"a":{"n":"inf"},"b":{"n":"Infinity"},"c":{"n":"1"}}"#),
    ]);
}

#[test]
fn nothing_is_decided_by_the_first_rows() {
    hold(&[
        sent(
            "late_types",
            "a.csv",
            late("id,seats,renewal,n", "#,5,2026-03-04,#", "00042,12.75,2026-03-04 17:30:00,1_000.5\n"),
            "seats renewal n",
            "",
        )
        .only("00042", r#"{"seats":12.75,"renewal":"2026-03-04 17:30:00","n":"1_000.5"}"#)
        .says("`n` has only numbers except for 1 value, the first at late_types/a.csv, line 21002: it is sent as text")
        .says("`renewal` has dates and times that are written in several ways"),
        sent(
            "late_quotes",
            "a.csv",
            late("id,name,plan", "acct_#,Name,pro", "\"acct_x\",\"Acme \"\"Best\"\" Ltd\",pro\n"),
            "name plan",
            "",
        )
        .only("acct_x", r#"{"name":"Acme \"Best\" Ltd","plan":"pro"}"#),
        sent(
            "late_comma",
            "a.csv",
            late("id,name,plan", "acct_#,Name,pro", "acct_y,\"Acme, Inc.\",pro\n"),
            "name plan",
            "",
        )
        .only("acct_y", r#"{"name":"Acme, Inc.","plan":"pro"}"#),
        sent("late_word", "a.csv", late("id,flag", "acct_#,true", "acct_z,maybe\n"), "flag", "")
            .only("acct_z", r#"{"flag":"maybe"}"#),
        sent(
            "late_object",
            "a.ndjson",
            late("", "{\"id\":#,\"n\":#}", "{\"id\":\"x\",\"n\":12345678901234567.89,\"new\":[1.10]}\n"),
            "n new",
            "",
        )
        .only("x", r#"{"n":12345678901234567.89,"new":[1.1]}"#),
    ]);
}

#[test]
fn words_dates_and_times_become_what_every_value_is() {
    hold(&[
        sent(
            "lower_words",
            "a.csv",
            "id,b\na,true\nb,false\nc,\n",
            "b",
            r#"{"a":{"b":true},"b":{"b":false},"c":{"b":null}}"#,
        ),
        sent("excels_words", "a.csv", "id,b\na,TRUE\nb,FALSE\n", "b", r#"{"a":{"b":true},"b":{"b":false}}"#),
        sent("pandas_words", "a.csv", "id,b\na,True\nb,False\n", "b", r#"{"a":{"b":true},"b":{"b":false}}"#),
        sent("mixed_words", "a.csv", "id,b\na,True\nb,false\n", "b", r#"{"a":{"b":"True"},"b":{"b":"false"}}"#)
            .says("write `as = \"boolean\"` where they are"),
        sent("yes_and_no", "a.csv", "id,b\na,yes\nb,No\n", "b b2", "")
            .traits("b = \"b\"\nd = { column = \"b\", as = \"boolean\" }")
            .expecting(r#"{"a":{"b":"yes","d":true},"b":{"b":"No","d":false}}"#),
        sent("postgres_words", "a.csv", "id,b\na,t\nb,f\n", "b:boolean", r#"{"a":{"b":true},"b":{"b":false}}"#),
        sent("ones_and_zeros", "a.csv", "id,b\na,1\nb,0\n", "", "")
            .traits("n = \"b\"\nb = { column = \"b\", as = \"boolean\" }")
            .expecting(r#"{"a":{"n":1,"b":true},"b":{"n":0,"b":false}}"#),
        sent(
            "dates",
            "a.csv",
            "id,d\na,2026-03-04\nb,1999-12-31\n",
            "d",
            r#"{"a":{"d":"2026-03-04"},"b":{"d":"1999-12-31"}}"#,
        ),
        sent("no_such_day", "a.csv", "id,d\na,2026-02-30\n", "d", r#"{"a":{"d":"2026-02-30"}}"#),
        sent(
            "old_dates",
            "a.csv",
            "id,d\na,0001-01-01\nb,0000-00-00\n",
            "d",
            r#"{"a":{"d":"0001-01-01"},"b":{"d":"0000-00-00"}}"#,
        ),
        sent(
            "two_orders",
            "a.csv",
            "id,d\na,01/02/2026\nb,03/04/2026\n",
            "d",
            r#"{"a":{"d":"01/02/2026"},"b":{"d":"03/04/2026"}}"#,
        )
        .says("that are dates in one of two orders (day or month first)"),
        sent(
            "day_first",
            "a.csv",
            "id,d\na,01/02/2026\nb,31/12/2025\n",
            "d",
            r#"{"a":{"d":"01/02/2026"},"b":{"d":"31/12/2025"}}"#,
        )
        .says("CAST(strptime(d, '%d/%m/%Y') AS DATE)"),
        sent("german_dates", "a.csv", "id;d\na;31.12.2025\n", "d", r#"{"a":{"d":"31.12.2025"}}"#),
        sent(
            "converted_dates",
            "a.csv",
            "id,d\na,31/12/2025\n",
            "d = { sql = \"CAST(strptime(d, '%d/%m/%Y') AS DATE)\" }",
            r#"{"a":{"d":"2025-12-31"}}"#,
        ),
        sent(
            "local_times",
            "a.csv",
            "id,t\na,2026-03-04 17:30:00\nb,2026-03-04T17:30:00.5\n",
            "t",
            r#"{"a":{"t":"2026-03-04T17:30:00Z"},"b":{"t":"2026-03-04T17:30:00.500Z"}}"#,
        ),
        sent(
            "times_as_text",
            "a.csv",
            "id,t\na,2026-03-04 17:30:00\n",
            "t:string",
            r#"{"a":{"t":"2026-03-04 17:30:00"}}"#,
        ),
        sent(
            "salesforce_times",
            "a.csv",
            "id,t\na,2026-03-04T17:30:00.000+0000\nb,2026-03-04T17:30:00.000Z\n",
            "t",
            r#"{"a":{"t":"2026-03-04T17:30:00Z"},"b":{"t":"2026-03-04T17:30:00Z"}}"#,
        ),
        sent(
            "offsets",
            "a.csv",
            "id,t\na,2026-03-04 17:30:00+02\nb,2026-03-04T17:30:00+05:30\n",
            "t",
            r#"{"a":{"t":"2026-03-04T15:30:00Z"},"b":{"t":"2026-03-04T12:00:00Z"}}"#,
        ),
        sent(
            "with_and_without_zone",
            "a.csv",
            "id,t\na,2026-03-04 17:30:00\nb,2026-03-04 17:30:00Z\n",
            "t",
            r#"{"a":{"t":"2026-03-04 17:30:00"},"b":{"t":"2026-03-04 17:30:00Z"}}"#,
        ),
        sent(
            "nanoseconds",
            "a.csv",
            "id,t\na,2026-03-04 17:30:00.123456789\n",
            "t",
            r#"{"a":{"t":"2026-03-04T17:30:00.123456789Z"}}"#,
        ),
        sent(
            "ten_digits_of_a_second",
            "a.csv",
            "id,t\na,2026-03-04 17:30:00.1234567891\n",
            "t",
            r#"{"a":{"t":"2026-03-04 17:30:00.1234567891"}}"#,
        ),
        sent("stripe_times", "a.csv", "id,t\na,2026-03-04 17:30\n", "", "")
            .traits("t = \"t\"\nu = { column = \"t\", as = \"timestamp\" }")
            .expecting(r#"{"a":{"t":"2026-03-04 17:30","u":"2026-03-04T17:30:00Z"}}"#),
        sent("epochs", "a.csv", "id,t\na,1772645400\n", "t", r#"{"a":{"t":1772645400}}"#),
        sent("clocks", "a.csv", "id,t\na,17:30:00\nb,08:00\n", "t", r#"{"a":{"t":"17:30:00"},"b":{"t":"08:00"}}"#),
        sent(
            "uuids",
            "a.csv",
            "id,u\na,A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11\n",
            "u",
            r#"{"a":{"u":"A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"}}"#,
        ),
        sent(
            "declared_and_not_fit",
            "a.csv",
            "id,n\na,5\nb,n/a\n",
            "n:number",
            r#"{"a":{"n":5},"b":{"rejected":"trait `n`: cannot convert text \"n/a\" to number"}}"#,
        )
        .says("1 of the first 2 rows cannot become what is declared"),
    ]);
}

#[test]
fn nothing_is_a_value_and_words_for_it_are_text() {
    hold(&[
        sent("empty", "a.csv", "id,n,s\na,,\nb,5,x\n", "n s", r#"{"a":{"n":null,"s":null},"b":{"n":5,"s":"x"}}"#),
        sent("empty_in_quotes", "a.csv", "\"id\",\"n\",\"s\"\n\"a\",\"\",\"\"\n\"b\",\"5\",\"x\"\n", "n s", r#"{"a":{"n":null,"s":null},"b":{"n":5,"s":"x"}}"#),
        sent("blanks", "a.csv", "id,s\na,\" \"\nb, x \n", "s", r#"{"a":{"s":" "},"b":{"s":" x "}}"#),
        sent("null_words", "a.csv", "id,n\na,5\nb,NULL\nc,7\n", "n", r#"{"a":{"n":"5"},"b":{"n":"NULL"},"c":{"n":"7"}}"#)
            .says("`n` has 1 value like `NULL`, `N/A` or `\\N`, which are texts as any other, the first at null_words/a.csv, line 3")
            .says("nullif(n, 'N/A')"),
        sent("null_words_in_sql", "a.csv", "id,n\na,5\nb,NULL\n", "n = { sql = \"nullif(n, 'NULL')\", as = \"number\" }", r#"{"a":{"n":5},"b":{"n":null}}"#),
        sent("mysql_nulls", "a.tsv", "id\tn\na\t5\nb\t\\N\n", "n", r#"{"a":{"n":"5"},"b":{"n":"\\N"}}"#),
        sent("excels_errors", "a.csv", "id,n\na,#N/A\nb,#DIV/0!\n", "n", r##"{"a":{"n":"#N/A"},"b":{"n":"#DIV/0!"}}"##),
        sent("pandas_nan", "a.csv", "id,n\na,1.0\nb,NaN\n", "n", r#"{"a":{"n":"1.0"},"b":{"n":"NaN"}}"#),
        sent("a_column_of_nothing", "a.csv", "id,n\na,\nb,\n", "n", r#"{"a":{"n":null},"b":{"n":null}}"#),
    ]);
}

#[test]
fn sql_sees_the_types_that_every_value_has() {
    hold(&[
        sent(
            "typed_sql",
            "a.csv",
            "id,seats,since,live\na,10,2026-01-02,true\nb,3,2025-01-02,false\n",
            "s = { sql = \"seats * 2\" }\ny = { sql = \"CAST(year(since) AS INTEGER)\" }\nl = { sql = \"NOT live\" }",
            r#"{"a":{"s":20,"y":2026,"l":false},"b":{"s":6,"y":2025,"l":true}}"#,
        ),
        sent("where", "a.csv", "id,seats\na,10\nb,3\n00c,7\n", "seats", r#"{"a":{"seats":10},"00c":{"seats":7}}"#)
            .more("where = \"seats > 5\""),
        sent(
            "exact_sql",
            "a.csv",
            "id,arr\na,1234567890123456.78\n",
            "arr = { sql = \"arr + 1\", as = \"number\" }",
            r#"{"a":{"arr":1234567890123457.78}}"#,
        ),
        sent(
            "sql_over_text",
            "a.csv",
            "id,zip\na,02134\n",
            "z = { sql = \"zip || '-x'\" }",
            r#"{"a":{"z":"02134-x"}}"#,
        ),
        sent(
            "subquery",
            "a.csv",
            "id,seats\na,10\nb,3\n",
            "share = { sql = \"seats / (SELECT max(seats) FROM (VALUES (20)) v(seats))\" }",
            r#"{"a":{"share":0.5},"b":{"share":0.15}}"#,
        ),
        sent(
            "json_sql",
            "a.ndjson",
            "{\"id\":\"a\",\"n\":5,\"o\":{\"city\":\"Graz\"},\"t\":\"2026-03-04\"}\n",
            "n = { sql = \"n + 1\" }\ncity = { sql = \"o->>'city'\" }\ny = { sql = \"CAST(year(t) AS INTEGER)\" }",
            r#"{"a":{"n":6,"city":"Graz","y":2026}}"#,
        ),
        sent(
            "a_column_called_k",
            "a.csv",
            "id,k,rowid,c0\na,1,2,3\n",
            "k rowid c0",
            r#"{"a":{"k":1,"rowid":2,"c0":3}}"#,
        ),
    ]);
}
